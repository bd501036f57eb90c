"""How a person writes: long or short, with or without greetings, capitals and full stops."""

import re
from random import Random

from msgspec import Struct

SHORT = (  # never before a full stop: "here it is." stays
    (r"\b([Ii]) am(?= \w)", r"\1'm"),
    (r"\b([Ii]) have(?= (?:been|had|kept|changed|given|gone|read|found|called|asked|seen|so)\b)",
     r"\1've"),
    (r"\b([Ii]) will(?= \w)", r"\1'll"), (r"\b([Ii]) would(?= \w)", r"\1'd"),
    (r"\b([Dd])o not\b", r"\1on't"), (r"\b([Dd])oes not\b", r"\1oesn't"),
    (r"\b([Dd])id not\b", r"\1idn't"), (r"\b([Ii])s not\b", r"\1sn't"),
    (r"\b([Ww])as not\b", r"\1asn't"), (r"\b([Aa])re not\b", r"\1ren't"),
    (r"\b([Cc])annot\b", r"\1an't"), (r"\b([Cc])ould not\b", r"\1ouldn't"),
    (r"\b([Ii])t is(?= \w)", r"\1t's"), (r"\b([Tt])hat is(?= \w)", r"\1hat's"),
    (r"\b([Ww])ill not\b", r"\1on't"), (r"\b([Hh])as not\b", r"\1asn't"),
    (r"\b([Hh])ave not\b", r"\1aven't"),
)  # fmt: skip
CONTRACTIONS = tuple((re.compile(pattern), made) for pattern, made in SHORT)
CANDIDATE = re.compile(r"[ '](?:am|have|will|would|not|is|cannot)\b|cannot")
ARTICLE = re.compile(
    r"\b([Aa]) (?=(?:[aeio]|u(?!ni|s[eu]|ti)|hour|heir|honest|8\b|1[18]\b|8\d))(?!eu|one\b|once)",
    re.IGNORECASE,
)
GAP = re.compile(r" +([.,;:!?])| +(?= )")
BEGINNING = re.compile(r"(?<=[.!?] )[a-z]")


class Voice(Struct, frozen=True):
    """A person's manner of writing. Shares are probabilities per text.

    length: 1.0 is usual; half of it writes half as much.
    small: no capital letters at all.
    bare: no full stop at the end of a text.
    contract: writes "don't" for "do not".
    greeting, signoff, exclaim, smile, dots, lines: how often a text has one of them; `lines` is a
        new paragraph between two sentences.
    ask: how often a note ends with a question.
    title: how often a note has a title.
    """

    me: str = ""
    length: float = 1.0
    small: bool = False
    bare: bool = False
    contract: bool = True
    greeting: float = 0.15
    signoff: float = 0.1
    exclaim: float = 0.05
    smile: float = 0.02
    dots: float = 0.03
    lines: float = 0.15
    ask: float = 0.3
    title: float = 0.6


def draw_voice(rng: Random, me: str = "") -> Voice:
    """Return somebody's manner; most people are near the middle of everything.

    Args:
        rng: where the draws come from.
        me: the first name, for those who sign.
    """
    return Voice(
        me=me,
        length=min(3.0, max(0.35, rng.lognormvariate(0.0, 0.45))),
        small=rng.random() < 0.05,
        bare=rng.random() < 0.12,
        contract=rng.random() < 0.65,
        greeting=rng.random() ** 3 * 0.8,
        signoff=rng.random() ** 4 * 0.7,
        exclaim=rng.random() ** 4 * 0.6,
        smile=0.25 if rng.random() < 0.08 else 0.0,
        dots=0.3 if rng.random() < 0.07 else 0.0,
        lines=rng.random() ** 2 * 0.5,
        ask=rng.random() * 0.7,
        title=rng.random() ** 0.5,
    )


def spoken(sentences: list[str], voice: Voice, rng: Random) -> str:
    """Return the sentences as this person would type them."""
    pieces: list[str] = []
    for sentence in sentences:
        if pieces:
            pieces.append("\n\n" if rng.random() < voice.lines else " ")
        pieces.append(sentence)
    text = tidied("".join(pieces))
    if voice.contract and CANDIDATE.search(text):
        text = contracted(text)
    if voice.exclaim and rng.random() < voice.exclaim and text.endswith("."):
        text = text[:-1] + "!"
    elif voice.dots and rng.random() < voice.dots and text.endswith("."):
        text += ".."
    elif voice.bare and text.endswith("."):
        text = text[:-1]
    if voice.smile and rng.random() < voice.smile:
        text += " :)"
    return text.lower() if voice.small else text


def tidied(text: str) -> str:
    """Return the text with the right article before a vowel, single spaces and capitals."""
    text = GAP.sub(r"\1", ARTICLE.sub(r"\1n ", text))
    return BEGINNING.sub(lambda found: found[0].upper(), text)


def contracted(text: str) -> str:
    """Return the text with "don't" for "do not"."""
    for pattern, made in CONTRACTIONS:
        text = pattern.sub(made, text)
    return text
