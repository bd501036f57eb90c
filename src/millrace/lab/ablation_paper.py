"""The questions of an exam as encoders are put to them, and what one encoder finds.

Prompts are written once for each way of writing them, and read by every model of that way.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.msgpack import encode
from numpy.typing import NDArray

from millrace.feed.prompts.v2 import PERCENTILES
from millrace.feed.recipe import EncoderRecipe
from millrace.lab import quality, rivals
from millrace.lab.ablation_folder import Found
from millrace.lab.exam import Exam, Question, World, drawn
from millrace.lab.figures import Figures
from millrace.lab.prompt_facts import PromptFacts
from millrace.lab.recipe_prompts import prompts_by
from millrace.lab.rivals import Moment, Places, Scores
from millrace.lab.vectors import (
    Form,
    Matrix,
    Prompts,
    Reader,
    Vectors,
    encoded,
    lent_encoder,
)

VIEWS = PERCENTILES[1]
SYSTEM = ""
MEASURES = ("recall_10", "recall_100", "popularity_correlation")

Near = Callable[[int, Places], Scores]


class Sheet(Struct, frozen=True):
    """One question: who is asked, what each may be given, and how often each post was viewed."""

    question: Question
    members: list[int]
    candidates: dict[int, Places]
    posts: list[int]
    views: dict[int, int]
    moment: Moment


class Paper:
    """All questions of an exam."""

    def __init__(self, exam: Exam, seed: int, members_max: int) -> None:
        """Draw the members that are asked."""
        self._world = World(exam.data, exam.live_days)
        self._facts = PromptFacts(self._world)
        self._sheets = [self._sheet(one, seed, members_max) for one in exam.questions]
        self._written: dict[tuple[object, ...], Prompts] = {}

    @property
    def members(self) -> list[int]:
        """Return everybody who is asked; figures stand in their order."""
        return sorted({one for sheet in self._sheets for one in sheet.members})

    @property
    def new_members(self) -> NDArray[np.bool_]:
        """Return who had no positive engagement before their first question."""
        first = {one: sheet for sheet in reversed(self._sheets) for one in sheet.members}
        return np.array(
            [not len(first[member].moment.history(member)) for member in self.members], np.bool_
        )

    @property
    def fingerprint(self) -> str:
        """Return a name of what is asked: of whom, when, what is right, and among what."""
        told = [
            (str(one.question.at), member, sorted(one.question.relevant[member]), one.posts)
            for one in self._sheets
            for member in one.members
        ]
        return blake2b(encode(told), digest_size=8).hexdigest()

    def at_random(self) -> Found:
        """Return what is found by no system at all."""
        figures = Figures()
        for sheet in self._sheets:
            for member in sheet.members:
                draw = np.random.default_rng(member)
                scores = draw.random(len(sheet.candidates[member]))
                _judge(figures, sheet, member, scores)
        return _found(figures)

    def read(
        self, model: Path | None, recipe: EncoderRecipe, lengths: Sequence[int], threads: int
    ) -> dict[int, Found]:
        """Return what a model finds with so many of its numbers; 0 is all of them.

        Args:
            model: its directory; None for the packaged one.
            recipe: how its prompts are written, and where histories stand; how these are pooled
                says the model, where it was trained with it.
            lengths: those that it does not have are left out.
            threads: that encode.
        """
        with lent_encoder(model, threads) as lent:
            pooled = recipe.history_in == "pooled"
            encoder = Form(lent, (lent.history or recipe.pooled) if pooled else None, {})
            had = [one for one in lengths if one <= encoder.dims]
            figures = {length: Figures() for length in had}
            for number, sheet in enumerate(self._sheets):
                vectors = encoded(self._prompts(number, recipe, encoder), encoder)
                for length in had:
                    near = shortened(vectors, length).nearness
                    for member in sheet.members:
                        scores = near(member, sheet.candidates[member])
                        _judge(figures[length], sheet, member, scores)
        return {length: _found(one) for length, one in figures.items()}

    def _prompts(self, number: int, recipe: EncoderRecipe, encoder: Reader) -> Prompts:
        key = (number, recipe.numbers, recipe.history, encoder.history)
        if key not in self._written:
            sheet = self._sheets[number]
            asked = (sheet.members, sheet.posts)
            self._written[key] = prompts_by(recipe, self._facts, sheet.question.at, asked, encoder)
        return self._written[key]

    def _sheet(self, question: Question, seed: int, members_max: int) -> Sheet:
        members = drawn(self._world, question, seed, members_max)
        candidates = {one: self._world.candidates(one, question.at) for one in members}
        posts: list[int] = np.unique(np.concatenate(list(candidates.values()))).tolist()
        counted = self._facts.numbers(posts, question.at)
        return Sheet(
            question=question,
            members=members,
            candidates=candidates,
            posts=posts,
            views={post: one[VIEWS] for post, one in zip(posts, counted, strict=True)},
            moment=self._world.moment(question.at),
        )


def shortened(vectors: Vectors, length: int) -> Vectors:
    """Return the first numbers of vectors, brought back to length 1; 0 is all of them."""
    return (
        Vectors(_short(vectors.members, length), _short(vectors.posts, length))
        if length
        else vectors
    )


def correlation(scores: Scores, views: Sequence[int]) -> float:
    """Return Pearson's correlation of scores with the ranks of views; NaN where either is all equal.

    Ranks, because a few posts have most of the views and would decide it alone.
    """
    _, places, counts = np.unique(np.array(views), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    if not np.ptp(scores) or not np.ptp(ranks):
        return float("nan")
    return float(np.corrcoef(scores, ranks)[0, 1])


def _judge(figures: Figures, sheet: Sheet, member: int, scores: Scores) -> None:
    """Note what a member finds of what they would like, and how it goes with popularity."""
    candidates, relevant = sheet.candidates[member], sheet.question.relevant[member]
    ranking = rivals.best(scores, candidates, sheet.moment)
    views = [sheet.views[post] for post in candidates.tolist()]
    figures.note(SYSTEM, "recall_10", member, quality.recall(ranking, relevant, 10))
    figures.note(SYSTEM, "recall_100", member, quality.recall(ranking, relevant, 100))
    figures.note(SYSTEM, "popularity_correlation", member, correlation(scores, views))


def _found(figures: Figures) -> Found:
    columns = {one: figures.of(SYSTEM, one).round(6) for one in MEASURES}
    return Found(
        **{
            name: [None if np.isnan(one) else float(one) for one in values]
            for name, values in columns.items()
        }
    )


def _short(vectors: Matrix, length: int) -> Matrix:
    first = vectors[:, :length]
    return first / np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-12)
