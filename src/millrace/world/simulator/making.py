"""Makes a town: people, what they write, the past of their feeds, and what they said to each other.

    people -> posts as numbers -> texts -> the past, hour by hour -> comments

Each part draws from a stream of its own name, so the parts do not move each other.
"""

from collections.abc import Callable, Sequence

import numpy as np

from millrace.community.types import Action
from millrace.kernel.rng import Rng
from millrace.world.simulator.draws import Draws, words
from millrace.world.simulator.past import QUIET_SECONDS, bound, lived
from millrace.world.simulator.people import People, settled
from millrace.world.simulator.posting import AUDIENCES, Posting, posted
from millrace.world.simulator.tastes import Truth, mixed, nearness
from millrace.world.simulator.topic import topics
from millrace.world.simulator.town import Town
from millrace.world.simulator.types import (
    ACTIONS,
    KINDS,
    Bond,
    Done,
    Person,
    Place,
    Remark,
    TownConfig,
    Written,
)
from millrace.world.simulator.voices import Voice
from millrace.world.simulator.writing import Writer

Watch = Callable[[str, int, int], None]
"""Told of progress: what is being made, how much of it there is, and how much there will be."""

TOLD_ROWS = 500
MODERATORS = 2
"""Members of each community who may moderate: the first ones."""
NEIGHBOURS_MAX = 3
INTEREST_MIN = 0.05
ANSWER_SHARE = 0.3
"""Comments that answer an earlier one."""
BACK_SHARE = 0.22
"""Comments that the author of the post answers."""
BACK_SECONDS_MAX = QUIET_SECONDS // 3
LANGUAGES = ("de", "pl", "tr", "pt", "fr", "ar", "cs", "es", "it", "uk")


def make(config: TownConfig, watch: Watch) -> Town:
    """Make a town.

    Args:
        config: what it is made from.
        watch: told of progress.
    """
    near = [topic.near for topic in topics()]
    people = settled(config, near)
    posting = posted(config, people, near)
    names = [f"m{number:05}" for number in range(config.members)]
    author = _Author(config, people, posting, watch)
    residents = author.residents(names)
    written = author.posts()
    posting.traits.length[:] = [len(post.text) for post in written]
    truth = Truth(people.minds, posting.traits, nearness(near), config.noise)
    bonds = bound(config, people)
    shown, done = lived(
        config, people, posting, bonds, truth, lambda count, of: watch("impressions", count, of)
    )
    remarks = author.remarks(done)
    return Town(
        config=config,
        places=author.places(),
        people=residents,
        posts=written,
        remarks=remarks,
        bonds=_lasting(bonds, posting, done),
        shown=shown,
        done=done,
        truth=truth,
    )


def _lasting(bonds: list[Bond], posting: Posting, done: Done) -> list[Bond]:
    """Return the follows that no block has ended."""
    blocks = done.kind == ACTIONS.index(Action.BLOCK)
    authors = posting.traits.author[done.post[blocks]]
    pairs = zip(done.member[blocks].tolist(), authors.tolist(), strict=True)
    ended = {frozenset(pair) for pair in pairs}
    return [bond for bond in bonds if frozenset((bond.member, bond.target)) not in ended]


class _Author:
    """Puts words to numbers."""

    def __init__(self, config: TownConfig, people: People, posting: Posting, watch: Watch) -> None:
        self._config = config
        self._people = people
        self._posting = posting
        self._watch = watch
        self._writer = Writer()
        self._voices: list[Voice] = []

    def places(self) -> list[Place]:
        """Return the communities; each has a few others nearby."""
        count = self._config.communities
        found: list[Place] = []
        for index in range(count):
            rng = words(self._config.seed, f"community/{index}")
            name, description, place = self._writer.community(rng, index)
            nearby = [
                (index + step) % count for step in range(1, min(NEIGHBOURS_MAX, count - 1) + 1)
            ]
            ids = [_place_id(self._config, one) for one in nearby]
            found.append(Place(_place_id(self._config, index), name, description, place, ids))
        return found

    def residents(self, names: Sequence[str]) -> list[Person]:
        """Return the members; a profile tells the interests that they had when they joined."""
        config, people = self._config, self._people
        eye = np.eye(len(topics()))
        since = np.maximum(people.joined, 0)
        interests = mixed(people.minds, np.arange(config.members), since, eye)
        found: list[Person] = []
        for index, name in enumerate(names):
            if index % TOLD_ROWS == 0:
                self._watch("members", index, config.members)
            rng, shown, voice = _person(config.seed, index, self._writer)
            self._voices.append(voice)
            cares = [
                (int(topic), float(interests[index, topic]))
                for topic in np.flatnonzero(interests[index] >= INTEREST_MIN)
            ]
            profile = self._writer.profile(rng, cares, config.overlap)
            found.append(
                Person(
                    external_id=name,
                    community=int(people.community[index]),
                    display_name=shown,
                    headline=profile.headline,
                    about=profile.about,
                    skills=profile.skills,
                    place=profile.place,
                    languages=["en", *rng.sample(LANGUAGES, rng.choice((0, 0, 0, 1, 2)))],
                    moderates=index < MODERATORS * config.communities,
                    joined=int(people.joined[index]),
                )
            )
        self._watch("members", config.members, config.members)
        return found

    def posts(self) -> list[Written]:
        """Return the posts, each in its author's voice."""
        traits, posting = self._posting.traits, self._posting
        found: list[Written] = []
        for index in range(self._config.posts):
            if index % TOLD_ROWS == 0:
                self._watch("posts", index, self._config.posts)
            first, second = (int(topic) for topic in traits.topics[index])
            kind, author = KINDS[int(traits.kind[index])], int(traits.author[index])
            text = self._writer.post(
                words(self._config.seed, f"post/{index}"),
                first,
                None if second == first else second,
                kind,
                self._config.overlap,
                self._voices[author],
            )
            found.append(
                Written(
                    external_id=f"p{index:06}",
                    community=int(posting.community[index]),
                    author=author,
                    kind=kind,
                    title=text.title,
                    text=text.text,
                    link=text.link,
                    topics=text.tags,
                    audience=AUDIENCES[int(posting.audience[index])],
                    created=int(traits.created[index]),
                )
            )
        self._watch("posts", self._config.posts, self._config.posts)
        return found

    def remarks(self, done: Done) -> list[Remark]:
        """Return what members said under posts, and what authors answered, in order of time."""
        commented = np.flatnonzero(done.kind == ACTIONS.index(Action.COMMENT))
        draws = Draws(self._config.seed, "remarks")
        answers, back = draws.uniform(len(commented)), draws.uniform(len(commented))
        later = 60 + draws.below(BACK_SECONDS_MAX - 60, len(commented))
        drafts: list[tuple[int, int, int, int]] = []  # created, author, post, answered draft or -1
        under: dict[int, list[int]] = {}
        for place, row in enumerate(commented):
            if place % TOLD_ROWS == 0:
                self._watch("comments", place, len(commented))
            at, post = int(done.at[row]), int(done.post[row])
            earlier = [one for one in under.setdefault(post, []) if drafts[one][0] < at]
            parent = earlier[int(answers[place] * 1e6) % len(earlier)] if (
                earlier and answers[place] < ANSWER_SHARE
            ) else -1  # fmt: skip
            under[post].append(len(drafts))
            drafts.append((at, int(done.member[row]), post, parent))
            if back[place] < BACK_SHARE:
                author = int(self._posting.traits.author[post])
                drafts.append((at + int(later[place]), author, post, len(drafts) - 1))
        self._watch("comments", len(commented), len(commented))
        return self._said(drafts)

    def _said(self, drafts: list[tuple[int, int, int, int]]) -> list[Remark]:
        """Return the drafts with words, in order of time; an answer stands after what it answers."""
        order = sorted(range(len(drafts)), key=lambda one: (drafts[one][0], one))
        place = {draft: at for at, draft in enumerate(order)}
        found: list[Remark] = []
        for at, draft in enumerate(order):
            created, author, post, parent = drafts[draft]
            topic = int(self._posting.traits.topics[post, 0])
            rng = words(self._config.seed, f"comment/{at}")
            text = self._writer.comment(rng, topic, self._config.overlap, self._voices[author])
            said = place[parent] if parent >= 0 else -1
            found.append(
                Remark(
                    external_id=f"c{at:06}",
                    author=author,
                    post=post,
                    parent=said,
                    text=text,
                    created=created,
                )
            )
        return found


def _person(seed: int, index: int, writer: Writer) -> tuple[Rng, str, Voice]:
    """Return a member's name and voice, and what the rest of the profile is drawn from."""
    rng = words(seed, f"member/{index}")
    shown, _ = writer.name(rng)
    return rng, shown, writer.voice(rng, shown.split(" ", 1)[0])


def voice_of(seed: int, index: int, writer: Writer) -> Voice:
    """Return how a member of the town writes."""
    return _person(seed, index, writer)[2]


def _place_id(config: TownConfig, index: int) -> str:
    """Return the external id of a community; towns of different seeds can live side by side."""
    return f"town-{config.seed}-{index + 1}"
