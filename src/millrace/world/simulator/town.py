"""A made town: everything in it, its truth, and the name of exactly this one."""

import hashlib

import msgspec
import numpy as np
from msgspec import Struct

from millrace.kernel.errors import InvalidError
from millrace.world.simulator.draws import Draws, Floats, Whole
from millrace.world.simulator.tastes import Truth
from millrace.world.simulator.types import (
    DAY,
    LIVE_SECONDS,
    VERSION,
    Bond,
    Done,
    Judged,
    Person,
    Place,
    Remark,
    Shown,
    TownConfig,
    Written,
)

ROWS_MAX = 50_000
"""Rows that are judged at a time; each needs a number for every topic meanwhile."""
FINE = 1e-6
"""Numbers of the truth count in the digest to this precision: the last bits may be a machine's."""


class Town(Struct, frozen=True):
    """Everything that is known of a town. All lists are in order; a place in one is a name.

    people are in no order of time; posts and remarks, shown and done are in order of time.
    """

    config: TownConfig
    places: list[Place]
    people: list[Person]
    posts: list[Written]
    remarks: list[Remark]
    bonds: list[Bond]
    shown: Shown
    done: Done
    truth: Truth

    def digest(self) -> str:
        """Return the name of exactly this town: 32 hex characters over everything in it."""
        found = hashlib.blake2b(digest_size=16)
        encoder = msgspec.json.Encoder(order="deterministic")
        found.update(VERSION.encode())
        for part in (self.config, self.places, self.people, self.posts, self.remarks, self.bonds):
            found.update(encoder.encode(part))
        for table in (self.shown, self.done, self.truth.minds, self.truth.traits):
            for name in table.__struct_fields__:
                column = getattr(table, name)
                found.update(name.encode())
                found.update(_whole(column) if column.dtype == np.float64 else column.tobytes())
        found.update(_whole(self.truth.near))
        return found.hexdigest()

    def judged(self, split: int, per_member: int) -> Judged:
        """Show members posts by chance alone, after a split, and tell what they did.

        The posts are live ones of the home community, each as likely as any other, none by the
        member. Every look is a look: there is no page and no place in it. Whatever a feed would
        rather show has no part in it, so a judgement by this log is unbiased.

        Args:
            split: seconds of the town; looks are spread from here to the end.
            per_member: how many posts each member is shown who has joined by then.

        Raises:
            InvalidError: the split lies outside the town, or nothing is to be shown.
        """
        span = self.config.days * DAY
        if not 0 < split < span or per_member < 1:
            raise InvalidError(
                f"a judgement from second {split} with {per_member} posts each cannot be made",
                field="split",
                value=split,
                limit=f"1 to {span - 1} seconds, 1 or more posts",
                next_step="choose a split inside the town",
            )
        draws = Draws(self.config.seed, f"judged/{split}/{per_member}")
        traits = self.truth.traits
        home = np.array([person.community for person in self.people])
        joined = np.array([person.joined for person in self.people])
        written_in = np.array([post.community for post in self.posts])
        columns: list[tuple[Whole, ...]] = []
        for community in range(len(self.places)):
            posts = np.flatnonzero(written_in == community)
            members = np.flatnonzero(home == community)
            member = np.repeat(members, per_member)
            begin = np.maximum(joined[member], split)
            at = begin + (draws.uniform(len(member)) * (span - begin)).astype(np.int64)
            low = np.searchsorted(traits.created[posts], at - LIVE_SECONDS)
            high = np.searchsorted(traits.created[posts], at)
            place = low + (draws.uniform(len(member)) * (high - low)).astype(np.int64)
            post = posts[np.minimum(place, len(posts) - 1)]
            kept = (high > low) & (traits.author[post] != member)
            columns.append((member[kept], post[kept], at[kept]))
        member, post, at = (np.concatenate([one[i] for one in columns]) for i in range(3))
        parts = [slice(low, low + ROWS_MAX) for low in range(0, len(member), ROWS_MAX)]
        asked = [self.truth.appeals(member[one], post[one, None], at[one])[:, 0] for one in parts]
        appeal = np.concatenate([np.zeros(0), *asked])
        engaged = (draws.uniform(len(member)) < appeal) * 1
        order = np.lexsort((post, member, at))
        member, post, at = member[order], post[order], at[order]
        return Judged(split, member, post, at, appeal[order], engaged[order])


def _whole(numbers: Floats) -> bytes:
    """Return numbers as whole multiples of FINE; what is infinite stays apart."""
    finite = np.where(np.isfinite(numbers), numbers, np.sign(numbers) * 1e9)
    return np.round(finite / FINE).astype("<i8").tobytes()
