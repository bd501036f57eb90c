"""A town that goes on: its people open feeds, do what they like, and write.

Everything is decided by the same truth and the same functions as the past. The door carries it
out; the clock is passed in, so a life can run on the wall's time or on a simulated one.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Action, PostKind
from millrace.kernel.clock import Clock
from millrace.kernel.errors import MillraceError
from millrace.world.simulator.behaviour import Pages, looks, react
from millrace.world.simulator.draws import Draws, Floats, places, words
from millrace.world.simulator.making import voice_of
from millrace.world.simulator.past import ACTIVITY_MAX, PAGE_MIN, PAGE_SPREAD
from millrace.world.simulator.ports import Deed, Door, Draft, Met
from millrace.world.simulator.posting import AUDIENCE_SHARES, AUDIENCES, KIND_SHARES
from millrace.world.simulator.recognising import topics_of
from millrace.world.simulator.tastes import Traits, Truth, mixed
from millrace.world.simulator.town import Town
from millrace.world.simulator.types import ACTIONS, DAY, KINDS
from millrace.world.simulator.writing import Writer

PAGE = 12
"""Posts that a feed is asked for."""
AGAIN_SHARE = 0.2
"""How often somebody looks once more at a post that they have seen."""
STRANGERS_MAX = 20_000
"""Posts written since the past whose traits are remembered; past this they are judged anew."""


class Lived(Struct):
    """What a life has done so far."""

    feeds: int = 0
    shown: int = 0
    engaged: int = 0
    likes: int = 0
    comments: int = 0
    posts: int = 0
    against: int = 0
    failed: int = 0

    def __str__(self) -> str:
        """Return it in one line."""
        return (
            f"{self.feeds:,} feeds opened, {self.shown:,} posts shown, {self.engaged:,} engaged "
            f"with, {self.likes:,} likes, {self.comments:,} comments, {self.posts:,} posts written, "
            f"{self.against:,} hidden, muted, blocked or reported"
        )


class Life:
    """The people of a town, from now on.

    Args:
        town: with its truth.
        door: the feed that they use.
        clock: of the world that they live in.
        seed: of who comes when; the tastes are the town's.
        speed: how many times as often they come as in the past of the town.
        members: who comes, as places in `Town.people`; those with no account are left out.
    """

    def __init__(
        self,
        town: Town,
        door: Door,
        *,
        clock: Clock,
        members: Sequence[int],
        seed: int = 1,
        speed: float = 1.0,
    ) -> None:
        self.lived = Lived()
        self._town = town
        self._door = door
        self._clock = clock
        self._speed = speed
        minds = town.truth.minds
        traits = town.truth.traits
        self._truth = Truth(minds, traits, town.truth.near, town.truth.noise)
        self._rows: dict[str, int] = {}
        self._draws = Draws(seed, "life")
        self._seed = seed
        self._writer = Writer()
        self._members = np.array(members, dtype=np.int64)
        self._come = np.minimum(minds.activity, ACTIVITY_MAX * minds.activity.mean())
        self._wrote = np.bincount(traits.author, minlength=len(town.people)).astype(np.float64)
        self._texts = 0

    def at(self) -> float:
        """Return the moment in seconds of the town."""
        return (self._clock.now() - self._town.config.start).total_seconds()

    def rates(self) -> tuple[float, float]:
        """Return how many feeds are opened and posts written in a second."""
        config = self._town.config
        here = self._come[self._members].sum() / self._come.sum()
        pens = self._wrote[self._members].sum() / max(self._wrote.sum(), 1.0)
        mean = PAGE_MIN + (PAGE_SPREAD - 1) / 2
        span = config.days * DAY
        visits = config.impressions / mean / span * here
        return float(visits) * self._speed, float(config.posts / span * pens) * self._speed

    async def run(
        self, pause: Callable[[float], Awaitable[None]], *, seconds: float | None = None
    ) -> None:
        """Let people come until the time is over, or for ever.

        What fails is counted and left; the door itself waits where it is told to.

        Args:
            pause: waits so many seconds of the clock.
            seconds: how long, by the clock.
        """
        until = None if seconds is None else self._clock.monotonic() + seconds
        visits, posts = self.rates()
        total = visits + posts
        if total <= 0.0:
            return
        while until is None or self._clock.monotonic() < until:
            wait = float(self._draws.exponential(1)[0]) / total
            left = wait if until is None else min(wait, until - self._clock.monotonic())
            await pause(max(left, 0.0))
            if until is not None and self._clock.monotonic() >= until:
                return
            await self._one(wants_post=float(self._draws.uniform(1)[0]) < posts / total)

    async def _one(self, *, wants_post: bool) -> None:
        """Let one member come."""
        weights = self._wrote if wants_post else self._come
        member = int(self._members[self._draws.among(weights[self._members], 1)[0]])
        try:
            await (self.post(member) if wants_post else self.visit(member))
        except MillraceError:
            self.lived.failed += 1

    async def visit(self, member: int) -> list[Deed]:
        """Let a member open the feed and do what they like; return what they did."""
        page = await self._door.feed(member, PAGE)
        self.lived.feeds += 1
        page = [met for met in page if met.author != member]
        if not page:
            return []
        rows = np.array([self._known(page)], dtype=np.int64)
        look = looks(rows.shape[1]) * np.array([AGAIN_SHARE if met.seen else 1.0 for met in page])
        looked: NDArray[np.bool_] = self._draws.uniform(rows.shape) < look
        if not looked.any():
            looked[0, 0] = True
        last = int(np.flatnonzero(looked[0])[-1]) + 1
        await self._door.shown(member, page[:last])
        self.lived.shown += last
        pages = Pages(np.array([member]), rows, np.array([int(self.at())]))
        reaction = react(self._truth, pages, looked, self._draws)
        deeds = [
            Deed(
                met=page[int(place)],
                action=ACTIONS[int(kind)],
                dwell_ms=int(reaction.dwell_ms[0, place]) or None,
            )
            for kind, place in zip(*np.nonzero(reaction.done[:, 0]), strict=True)
        ]
        await self._do(member, deeds)
        self.lived.engaged += int(reaction.engaged.sum())
        return deeds

    async def _do(self, member: int, deeds: list[Deed]) -> None:
        """Carry out what a member decided."""
        acts = [deed for deed in deeds if deed.action is not Action.COMMENT]
        if acts:
            await self._door.did(member, acts)
        for deed in acts:
            self.lived.likes += deed.action is Action.LIKE
            self.lived.against += deed.action in {
                Action.HIDE,
                Action.MUTE,
                Action.BLOCK,
                Action.REPORT,
            }
        for deed in deeds:
            text = self._reply(member, deed.met) if deed.action is Action.COMMENT else ""
            if text:
                await self._door.comment(member, deed.met, text)
                self.lived.comments += 1

    def _reply(self, member: int, met: Met) -> str:
        """Return what a member says under a post: nothing where its topic is not known."""
        row = met.row if met.row >= 0 else self._rows[met.id]
        if not self._truth.traits.weights[row, 0]:
            return ""
        topic = int(self._truth.traits.topics[row, 0])
        voice = voice_of(self._town.config.seed, member, self._writer)
        rng = words(self._seed, f"reply/{self._next()}")
        return self._writer.comment(rng, topic, self._town.config.overlap, voice)

    async def post(self, member: int) -> None:
        """Let a member write about what they care for now."""
        truth, config = self._truth, self._town.config
        interests = mixed(
            truth.minds, np.array([member]), np.array([self.at()]), np.eye(truth.topics)
        )
        topic = int(places(interests[0], self._draws.uniform(1))[0])
        kind = KINDS[int(self._draws.among(_shares(), 1)[0])]
        voice = voice_of(config.seed, member, self._writer)
        rng = words(self._seed, f"post/{self._next()}")
        text = self._writer.post(rng, topic, None, kind, config.overlap, voice)
        audience = AUDIENCES[int(self._draws.among(AUDIENCE_SHARES, 1)[0])]
        identity = await self._door.write(
            member,
            Draft(
                kind=kind,
                title=text.title,
                text=text.text,
                link=text.link,
                topics=text.tags,
                audience=audience,
            ),
        )
        self._add([identity], _traits([(topic,)], [member], [kind], [len(text.text)], [self.at()]))
        self.lived.posts += 1

    def _next(self) -> str:
        """Return the name of the next text: never twice, also in another life of the same seed."""
        self._texts += 1
        return f"{int(self.at() * 1000)}/{self._texts}"

    # ------------------------------------------------- what posts are like

    def _known(self, page: list[Met]) -> list[int]:
        """Return the rows of posts in the truth; the traits of new ones are judged by their words."""
        new = [met for met in page if met.row < 0 and met.id not in self._rows]
        if new:
            if len(self._rows) > STRANGERS_MAX:
                self._forget()
                new = [met for met in page if met.row < 0]
            kinds = [met.kind for met in new]
            topics = [topics_of(met.topics, f"{met.title} {met.text}") for met in new]
            created = [
                (met.created - self._town.config.start) / timedelta(seconds=1) for met in new
            ]
            lengths = [len(met.text) for met in new]
            authors = [met.author for met in new]
            self._add([met.id for met in new], _traits(topics, authors, kinds, lengths, created))
        return [met.row if met.row >= 0 else self._rows[met.id] for met in page]

    def _add(self, ids: list[str], traits: Traits) -> None:
        first = len(self._truth.traits.author)
        self._truth.traits = self._truth.traits.and_also(traits)
        for place, identity in enumerate(ids):
            self._rows[identity] = first + place

    def _forget(self) -> None:
        """Forget every post that the town did not write; they are met anew."""
        self._truth.traits = self._town.truth.traits
        self._rows.clear()


def _shares() -> Floats:
    return np.array([KIND_SHARES[kind] for kind in KINDS])


def _traits(
    topics: Sequence[tuple[int, ...]],
    authors: Sequence[int],
    kinds: Sequence[PostKind],
    lengths: Sequence[int],
    created: Sequence[float],
) -> Traits:
    """Return the traits of posts that were not drawn; one about nothing known meets no interest."""
    main = [(one[0], one[-1]) if one else (0, 0) for one in topics]
    weights = [
        (0.0, 0.0) if not one else (0.7, 0.3) if len(one) > 1 else (1.0, 0.0) for one in topics
    ]
    return Traits(
        topics=np.array(main, dtype=np.int64),
        weights=np.array(weights, dtype=np.float64),
        # Nobody's favourite author is -1 here: that stands for no favourite.
        author=np.array([-2 if one < 0 else one for one in authors], dtype=np.int64),
        kind=np.array([KINDS.index(kind) for kind in kinds], dtype=np.int64),
        quality=np.zeros(len(authors)),
        length=np.array(lengths, dtype=np.int64),
        created=np.array(created, dtype=np.int64),
    )
