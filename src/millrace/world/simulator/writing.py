"""The town's writer: profiles, posts and comments from topics, frames and a person's voice.

Everything is drawn from the generator that is passed in, so the same generator gives the same
text. Overlap is given per text; noise and tags belong to the writer. See decision 0100.
"""

import re
from collections.abc import Sequence
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from millrace.community.types import PostKind
from millrace.world.simulator.grammar import capital
from millrace.world.simulator.names import draw_community, draw_name, draw_place
from millrace.world.simulator.scene import Scene, everyday
from millrace.world.simulator.topic import Topic, topics
from millrace.world.simulator.voices import Voice, draw_voice, spoken, tidied

WORDS_MIN = 8
WORDS_MAX = 180
SENTENCES_MAX = 16
TITLE_CHARACTERS_MAX = 120
ABOUT_SENTENCES_MAX = 9
SERVICE = re.compile(
    r"\b(free|euros|help|borrow|places?|seats?|hours?|walks|tandem|rooms?|sublet|share|prints"
    r"|interpreting|coaching|tutoring|lane|berth|rota|van|licence|exchange|months|whoever)\b"
)
TITLED = {  # how often a post of a kind has a title, whatever its writer's habits
    PostKind.QUESTION: 0.75, PostKind.EVENT: 0.95, PostKind.LISTING: 0.95, PostKind.LINK: 0.8,
    PostKind.ALERT: 0.85,
}  # fmt: skip
MIDDLE = {  # usual number of sentences between the first and the last
    PostKind.NOTE: 2.2, PostKind.QUESTION: 1.8, PostKind.EVENT: 2.4, PostKind.LISTING: 1.8,
    PostKind.LINK: 1.5, PostKind.ALERT: 1.3,
}  # fmt: skip
CLOSED = {
    PostKind.NOTE: 0.35, PostKind.QUESTION: 0.4, PostKind.EVENT: 0.5, PostKind.LISTING: 0.15,
    PostKind.LINK: 0.25, PostKind.ALERT: 0.1,
}  # fmt: skip


class ProfileText(Struct, frozen=True):
    """What a member says about themselves."""

    headline: str
    about: str
    skills: list[str]
    place: str


class PostText(Struct, frozen=True):
    """What a member writes; `tags` are the topics' slugs, or nothing."""

    title: str
    text: str
    tags: list[str]
    link: str
    language: str = "en"


class Writer:
    """Writes what the people of the town write.

    Args:
        noise: how often a text has a sentence that has nothing to do with its topic.
        tags: how often a post carries its topics as tags.
    """

    def __init__(self, *, noise: float = 0.12, tags: float = 0.5) -> None:
        self._noise = noise
        self._tags = tags

    def voice(self, rng: Random, me: str = "") -> Voice:
        """Return a person's manner of writing; `me` is how they sign."""
        return draw_voice(rng, me)

    def name(self, rng: Random) -> tuple[str, str]:
        """Return a display name and what a handle may be made of; neither is unique."""
        return draw_name(rng)

    def community(self, rng: Random, index: int) -> tuple[str, str, str]:
        """Return name, description and place of a community; names differ for each index."""
        return draw_community(rng, index)

    def profile(
        self, rng: Random, interests: Sequence[tuple[int, float]], overlap: float
    ) -> ProfileText:
        """Return what somebody of these interests says about themselves.

        Args:
            rng: where the draws come from.
            interests: topics and their weights; the heaviest are written about.
            overlap: probability that a phrase is made of words that posts use too.
        """
        first, second = _heaviest(rng, interests)
        scene = _Profile(rng, first, second, overlap)
        return ProfileText(
            headline=capital(tidied(scene.headline())),
            about=tidied(" ".join(scene.about())),
            skills=scene.skills(interests),
            place=draw_place(rng),
        )

    def post(
        self,
        rng: Random,
        topic: int,
        second: int | None,
        kind: PostKind,
        overlap: float,
        voice: Voice,
    ) -> PostText:
        """Return a post.

        Args:
            rng: where the draws come from.
            topic: what it is about.
            second: another topic that it touches, or None.
            kind: what it is; each kind has sentences of its own.
            overlap: probability that a phrase is made of words that profiles use too.
            voice: its author's manner.
        """
        names = {"me": voice.me}
        main = _scene(rng, topic, overlap, names)
        aside = None if second is None else _scene(rng, second, overlap, names)
        form = _deal(rng, main.phrase("offer")) if kind is PostKind.LISTING else kind.value
        title = _title(main, form, TITLED.get(kind, voice.title), rng)
        body = [_opening(main, form, rng), *self._middle(rng, main, aside, (kind, voice))]
        if rng.random() < CLOSED[kind] and len(body) > 1:
            own = kind in {PostKind.QUESTION, PostKind.EVENT}
            body.append(main.sentence(f"{form}_close" if own else "close"))
        while sum(sentence.count(" ") + 1 for sentence in body) < WORDS_MIN:
            body.append(main.sentence("body"))
        body = _capitalised(body)
        if rng.random() < voice.greeting:
            greeting = main.sentence("greeting")
            body[0] = greeting + ("\n" if greeting.endswith(",") else " ") + body[0]
        if voice.me and rng.random() < voice.signoff:
            body.append(main.sentence("signoff"))
        return PostText(
            title=title.lower() if voice.small else title,
            text=spoken(_bounded(body), voice, rng),
            tags=self._labels(rng, topic, second),
            link=_address(rng, topic, kind),
        )

    def comment(self, rng: Random, topic: int, overlap: float, voice: Voice) -> str:
        """Return a comment under a post of a topic; most are a sentence or two."""
        scene = _scene(rng, topic, overlap, {"me": voice.me})
        said: list[str] = []
        if rng.random() < 0.15:
            said.append(scene.sentence("reply_open"))
        first = "reply_short" if rng.random() < 0.3 / voice.length else "reply"
        said.append(scene.sentence(first))
        while len(said) < 6 and rng.random() < min(0.6, 0.3 * voice.length):
            said.append(scene.sentence("reply" if rng.random() < 0.6 else "body"))
        if rng.random() < self._noise / 3:
            said.append(scene.sentence("chatter"))
        return spoken(_capitalised(said), replace(voice, lines=0.0), rng)

    def _middle(
        self, rng: Random, main: Scene, aside: Scene | None, manner: tuple[PostKind, Voice]
    ) -> list[str]:
        """Return the sentences between the first and the last, in a long tail of lengths."""
        kind, voice = manner
        expected = MIDDLE[kind] * voice.length * rng.lognormvariate(-0.2, 0.65)
        count = min(SENTENCES_MAX, int(expected + rng.random()))
        own = f"{kind.value}_more"
        said: list[str] = []
        for _ in range(count):
            scene = aside if aside is not None and rng.random() < 0.35 else main
            usual = kind is PostKind.NOTE or (rng.random() < 0.25 and kind is not PostKind.ALERT)
            said.append(scene.sentence("body" if usual or scene is aside else own))
        if aside is not None and not count:
            said.append(aside.sentence("body"))
        if rng.random() < self._noise:
            said.insert(int(rng.random() * (len(said) + 1)), self._off_topic(rng, main))
        return said

    def _off_topic(self, rng: Random, scene: Scene) -> str:
        """Return a sentence of small talk, or one about something else altogether."""
        if rng.random() < 0.6:
            return scene.sentence("chatter")
        other = int(rng.random() * len(topics()))
        return f"{everyday(rng, 'bridge')} {_scene(rng, other, 0.0, {}).sentence('body')}"

    def _labels(self, rng: Random, topic: int, second: int | None) -> list[str]:
        """Return the tags of a post; many have none."""
        if rng.random() >= self._tags:
            return []
        known = topics()
        return [known[topic].name, *([] if second is None else [known[second].name])]


class _Profile:
    """A profile in the making: sentences of a first interest, and of a second one where there is."""

    def __init__(self, rng: Random, first: Topic, second: Topic | None, overlap: float) -> None:
        self._rng = rng
        self._overlap = overlap
        self._alone = second is None
        other = second or first
        others = _Others(Scene(rng, other, other.profile, overlap))
        self._scene = Scene(rng, first, first.profile, overlap, others)

    def headline(self) -> str:
        """Return one line; some people write none."""
        if self._rng.random() < 0.06:
            return ""
        both = not self._alone and self._rng.random() < 0.5
        return self._scene.sentence("headline_two" if both else "headline")

    def about(self) -> list[str]:
        """Return the sentences of the about text, in an order that people might tell them."""
        rng = self._rng
        plan = ["about_role"] if rng.random() < 0.85 else []
        plan += ["about_past"] * (1 if rng.random() < 0.75 else 2)
        plan += ["about_love"] * (1 + int(rng.random() * 2))
        plan += ["about_second"] * (0 if self._alone else int(rng.random() * 2.6))
        plan += ["about_plain"] * int(rng.random() * 1.7)
        if rng.random() < 0.4:
            rng.shuffle(plan)
        return _capitalised([self._scene.sentence(name) for name in plan[:ABOUT_SENTENCES_MAX]])

    def skills(self, interests: Sequence[tuple[int, float]]) -> list[str]:
        """Return a few labels, from all interests by their weights."""
        rng, known = self._rng, topics()
        count = 1 + int(rng.random() * 6)
        found: list[str] = []
        drawn = rng.choices(
            [topic for topic, _ in interests], [weight for _, weight in interests], k=count
        )
        for index in drawn:
            label = Scene(rng, known[index], known[index].profile, self._overlap).phrase("skill")
            if label not in found:
                found.append(label)
        return found


class _Others(dict[str, str]):
    """Answers `other_role` and its like with a fresh phrase of the second interest each time."""

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self._scene = scene

    def __contains__(self, slot: object) -> bool:
        return isinstance(slot, str) and slot.startswith("other_")

    def __getitem__(self, slot: str) -> str:
        return self._scene.phrase(slot.removeprefix("other_"))


def _heaviest(rng: Random, interests: Sequence[tuple[int, float]]) -> tuple[Topic, Topic | None]:
    """Return the interest that a profile is about, and one of the next, where there is one."""
    assert interests, "a profile needs an interest"
    known = topics()
    ranked = sorted(interests, key=lambda pair: (-pair[1], pair[0]))
    first = known[ranked[0][0]]
    others = ranked[1:3]
    second = known[others[int(rng.random() * len(others))][0]] if others else None
    return first, second


def _scene(rng: Random, topic: int, overlap: float, names: dict[str, str]) -> Scene:
    """Return a text in the making about a topic, in the words of posts."""
    chosen = topics()[topic]
    return Scene(rng, chosen, chosen.post, overlap, names)


def _deal(rng: Random, offer: str) -> str:
    """Return whether something is sold, given away or simply offered; services have no price."""
    if SERVICE.search(offer):
        return "offer"
    chance = rng.random()
    return "sell" if chance < 0.45 else "give" if chance < 0.75 else "offer"


def _opening(scene: Scene, form: str, rng: Random) -> str:
    """Return the first sentence; a note may begin in the middle of things."""
    begins = form == PostKind.NOTE.value and rng.random() < 0.4
    return scene.sentence("body" if begins else f"{form}_open")


def _title(scene: Scene, form: str, often: float, rng: Random) -> str:
    """Return a title, or nothing."""
    if rng.random() >= often:
        return ""
    title = capital(tidied(scene.sentence(f"{form}_title")))
    if len(title) > TITLE_CHARACTERS_MAX:
        title = capital(tidied(scene.phrase("thing")))
    return title


def _bounded(sentences: list[str]) -> list[str]:
    """Return the sentences that fit into the longest post, each beginning with a capital."""
    kept: list[str] = []
    words = 0
    for sentence in _capitalised(sentences):
        words += sentence.count(" ") + 1
        if kept and words > WORDS_MAX:
            break
        kept.append(sentence)
    return kept


def _capitalised(sentences: list[str]) -> list[str]:
    return [capital(sentence) for sentence in sentences]


def _address(rng: Random, topic: int, kind: PostKind) -> str:
    """Return a web address that leads nowhere, for posts of kind link."""
    if kind is not PostKind.LINK:
        return ""
    host = everyday(rng, "surname").lower()
    return f"https://{host}.example/{int(rng.random() * 9000) + 1000}"
