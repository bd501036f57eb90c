"""A text in the making: fills the slots of sentence frames from a topic's registers."""

import tomllib
from functools import cache
from pathlib import Path
from random import Random

from millrace.world.simulator.grammar import Template, compiled, expand
from millrace.world.simulator.topic import (
    POST_PARTS,
    PROFILE_PARTS,
    SHARED_PARTS,
    Phrases,
    Topic,
    listed,
)

FOLDER = Path(__file__).parent / "frames"
PARTS = frozenset((*POST_PARTS, *PROFILE_PARTS, "ware"))
# Said once, meant throughout.
FIXED = frozenset(("event", "offer", "alert", "link", "date", "venue", "start", "asking", "budget"))
FOCUS = 0.6  # how often a text comes back to the thing that it named first
TRIES = 4  # draws of a phrase that this text has not used yet


@cache
def frames() -> Phrases:
    """Return the sentences and words that belong to no topic. `shared.toml` is `shared_frames`."""
    found: Phrases = {}
    for path in sorted(FOLDER.glob("*.toml")):
        if path.stem != "shared":
            found |= _lists(path)
    return found


@cache
def shared_frames() -> Phrases:
    """Return what the parts of a topic are made of where the words are the shared ones."""
    return _lists(FOLDER / "shared.toml")


class Scene:
    """Fills slots for one text. It remembers what was used, so that a text does not repeat itself.

    Args:
        rng: where the draws come from.
        topic: whose words are used.
        register: the topic's profile or post register.
        overlap: probability that a phrase is drawn from the shared vocabulary.
        names: slots with one fixed answer, such as the writer's own name.
    """

    def __init__(
        self,
        rng: Random,
        topic: Topic,
        register: Phrases,
        overlap: float,
        names: dict[str, str] | None = None,
    ) -> None:
        self._rng = rng
        self._topic = topic
        self._register = register
        self._overlap = overlap
        self._names = {} if names is None else names
        self._used: set[int] = set()
        self._focus: dict[str, str] = {}

    def sentence(self, name: str) -> str:
        """Return one sentence of a frame list."""
        return expand(self._pick(frames()[name]), self._rng, self._frame)

    def phrase(self, part: str) -> str:
        """Return a phrase of one of the topic's parts, from the register or from the shared words."""
        if part in FIXED:
            return self._fixed(part)
        return self._drawn(part)

    def _fixed(self, slot: str) -> str:
        """Return the one event, place or date that this text is about."""
        if slot not in self._focus:
            self._focus[slot] = self._drawn(slot)
        return self._focus[slot]

    def _drawn(self, part: str) -> str:
        """Return a phrase of a part, or of everybody's words."""
        if part not in PARTS:
            return expand(self._pick(frames()[part]), self._rng, self._frame)
        if self._overlap and self._rng.random() < self._overlap:
            return self._shared(part)
        return self._own(part)

    def _frame(self, slot: str) -> str:
        """Answer for the slots of a frame."""
        if slot in PARTS:
            return self.phrase(slot)
        if slot in self._names:
            return self._names[slot]
        if slot in FIXED:
            return self._fixed(slot)
        return expand(self._pick(frames()[slot]), self._rng, self._frame)

    def _own(self, slot: str) -> str:
        """Answer for the slots of a phrase of the topic: its own words, then everybody's."""
        options = self._register.get(slot)
        if options is None and slot == "ware":
            return self._own("item")
        if options is None:
            return expand(self._pick(frames()[slot]), self._rng, self._own)
        if slot in {"item", "ware"}:
            return self._focused(slot, options)
        return expand(self._pick(options), self._rng, self._own)

    def _shared(self, slot: str) -> str:
        """Answer for the slots of a phrase of shared words."""
        if slot == "item":
            return self._focused("shared_item", self._topic.shared[slot])
        if slot in SHARED_PARTS:
            return expand(self._pick(self._topic.shared[slot]), self._rng, self._shared)
        options = shared_frames().get(slot) or frames()[slot]
        return expand(self._pick(options), self._rng, self._shared)

    def _focused(self, key: str, options: tuple[Template, ...]) -> str:
        """Return the thing that this text is about, or now and then another one."""
        if key in self._focus and self._rng.random() < FOCUS:
            return self._focus[key]
        text = expand(self._pick(options), self._rng, self._own)
        return self._focus.setdefault(key, text) if key not in self._focus else text

    def _pick(self, options: tuple[Template, ...]) -> Template:
        """Return one of the options, a fresh one where there are enough."""
        count, chosen = len(options), options[0]
        for _ in range(TRIES):
            chosen = options[int(self._rng.random() * count)]
            if id(chosen) not in self._used:
                break
        self._used.add(id(chosen))
        return chosen


def everyday(rng: Random, name: str) -> str:
    """Return a phrase of a list that needs no topic."""

    def fill(slot: str) -> str:
        options = frames()[slot]
        return expand(options[int(rng.random() * len(options))], rng, fill)

    return fill(name)


def _lists(path: Path) -> Phrases:
    """Return the compiled lists of a file of frames."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: tuple(compiled(line) for line in listed(text)) for name, text in table.items()}
