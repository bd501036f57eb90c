"""Names of people, places and communities. All are invented."""

import unicodedata
from random import Random

from millrace.world.simulator.grammar import capital
from millrace.world.simulator.scene import everyday


def draw_name(rng: Random) -> tuple[str, str]:
    """Return a display name and what a handle may be made of. Neither is unique."""
    first, last = everyday(rng, "first"), everyday(rng, "surname")
    style = rng.random()
    if style < 0.72:
        shown = f"{first} {last}"
    elif style < 0.82:
        shown = f"{first} {last[0]}."
    elif style < 0.9:
        shown = f"{first} {everyday(rng, 'first')[0]}. {last}"
    elif style < 0.95:
        shown = first
    else:
        shown = f"{first} {last}-{everyday(rng, 'surname')}"
    shape = int(rng.random() * 5)
    base = (
        f"{first}.{last}", f"{first}{last[0]}", f"{first[0]}{last}", f"{last}.{first}",
        f"{first}{int(rng.random() * 90) + 10}",
    )[shape]  # fmt: skip
    return shown, plain(base)


def draw_place(rng: Random) -> str:
    """Return where somebody lives, as they would put it; some leave it out."""
    return "" if rng.random() < 0.15 else capital(everyday(rng, "where"))


def draw_community(rng: Random, index: int) -> tuple[str, str, str]:
    """Return name, description and place; names differ for each index."""
    place = everyday(rng, "town")
    kind = ("neighbourhood", "association", "company")[(0, 0, 1, 0, 2, 1)[index % 6]]
    name = everyday(rng, f"{kind}_name").replace("<place>", place)
    ordinal = index // 60
    if ordinal:
        name = f"{name} {ordinal + 1}"
    description = everyday(rng, f"{kind}_description").replace("<place>", place)
    return capital(name), capital(description), place


def plain(text: str) -> str:
    """Return the text in small ASCII letters, digits and dots."""
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return "".join(sign for sign in folded if sign.isalnum() or sign == ".").strip(".")
