"""`millrace evaluate retrieval`: what each way of choosing posts finds of what members then liked.

A data set is cut at moments. At each one a whole installation knows what was known then, and
nothing later; every system ranks the same candidates for the same members, and is judged by what
they engaged with afterwards. A candidate is a post that the member may see, that is not their own,
and that they had neither been shown nor engaged with. The town tells more: there members are judged
by posts drawn at random, so no feed of the past decides what could be found (simulator/README.md).
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime

import msgspec
import numpy as np
from msgspec import Struct

from millrace.community.types import Key
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.types import HistoryForm
from millrace.kernel.clock import ShiftedClock
from millrace.lab import quality, report, rivals
from millrace.lab.dataset import Keys, load
from millrace.lab.exam import Exam, Oracle, Question, World, drawn
from millrace.lab.figures import Figures
from millrace.lab.installation import installation
from millrace.lab.prompt_facts import PromptFacts
from millrace.lab.quality import DEPTH, Difference
from millrace.lab.rivals import Places, Scores, Words
from millrace.lab.trained import Trained
from millrace.lab.vectors import Reader, encoded, in_both_forms, lent_encoder, prompts_at
from millrace.wiring import Program

ZERO_SHOT = "zero_shot"  # the untrained encoder that reads a history in the prompt
POOLED = f"{ZERO_SHOT}_pooled"  # the same encoder, where the vectors of liked posts are pooled
SYSTEMS = ("random", "newest_first", "popularity_decay", "bm25", ZERO_SHOT, POOLED, "feed")
ORACLE = "oracle"  # where the truth is known
TRAINED = "trained"  # where a model is named
MEASURES = ("recall_10", "recall_50", "recall_100", "ndcg_10")
NEW = "recall_100_new_members"  # of those without a history at the moment
PACKAGES = ("torch", "bm25s", "PyStemmer")

Say = Callable[[str], None]


class Stage(Struct, frozen=True):
    """Where a question is asked: an installation, and the data set that it holds.

    readers: the encoders that retrieve by themselves, by the name of the system.
    """

    program: Program
    world: World
    keys: Keys
    half_life: float
    oracle: Oracle | None
    facts: PromptFacts
    readers: Mapping[str, Reader]


class Outcome(Figures):
    """The figures of every system, by member: one for each moment that asked for them."""

    def judge(
        self, member: int, relevant: frozenset[int], rankings: Mapping[str, list[int]], *, new: bool
    ) -> None:
        """Judge what every system gave to a member; `new` where they had no history then."""
        for system, ranking in rankings.items():
            figures = {f"recall_{k}": quality.recall(ranking, relevant, k) for k in (10, 50, 100)}
            figures["ndcg_10"] = quality.ndcg(ranking, relevant, 10)
            if new:
                figures[NEW] = figures["recall_100"]
            for measure, value in figures.items():
                self.note(system, measure, member, value)


def run(
    exam: Exam,
    seed: int,
    members_max: int,
    model: Trained | None,
    history: HistoryForm,
    say: Say,
) -> dict[str, object]:
    """Evaluate every system on a data set.

    Args:
        exam: the data set and its questions.
        seed: of the random order, of the members drawn, of the bootstrap.
        members_max: how many members are asked at each moment.
        model: a trained encoder, if there is one.
        history: how what members liked comes into the vectors of the feed that is asked.
        say: told of progress.

    Returns:
        The keys of BENCH.md for `retrieval`.
    """
    start = report.begin(seed)
    with ExitStack() as lent:
        forms = in_both_forms(lent.enter_context(lent_encoder(None)), PooledHistory())
        readers: dict[str, Reader] = dict(zip((ZERO_SHOT, POOLED), forms, strict=True))
        if model:
            readers[TRAINED] = lent.enter_context(lent_encoder(model.model))
        outcome = asyncio.run(_asked(exam, (seed, members_max), readers, history, say))
    asked = [*SYSTEMS, *([ORACLE] if exam.oracle else []), *([TRAINED] if model else [])]
    systems: dict[str, dict[str, float | None] | None] = {
        system: outcome.means(system, (*MEASURES, NEW)) for system in asked
    }
    systems.setdefault(TRAINED, None)
    figures: dict[str, object] = {
        "data": exam.name,
        "split_time": exam.questions[0].at.isoformat(),
        "moments": len(exam.questions),
        "posts": len(exam.data.posts),
        "members": len(outcome.of("feed", "ndcg_10")),
        "new_members": len(outcome.of("feed", NEW)),
        "model": msgspec.to_builtins(model, enc_hook=str),
        "history": history.value,
        "systems": systems,
        "differences": msgspec.to_builtins(_differences(outcome, seed)),
        **exam.settings,
    }
    return report.finish(start, figures, PACKAGES)


def _differences(outcome: Outcome, seed: int) -> dict[str, Difference | None]:
    """Return how far the feed leads in nDCG, and retrieval in recall for new members."""
    found: dict[str, Difference | None] = {}
    feed = outcome.of("feed", "ndcg_10")
    for system in SYSTEMS[: SYSTEMS.index("feed")]:
        name = f"feed_minus_{system}_ndcg_10"
        found[name] = quality.difference(feed, outcome.of(system, "ndcg_10"), seed)
    for one in (ZERO_SHOT, POOLED):
        for system in ("bm25", "popularity_decay"):
            pair = outcome.of(one, NEW), outcome.of(system, NEW)
            found[f"{one}_to_{system}_{NEW}"] = quality.ratio(*pair, seed)
    for ours, theirs in ((POOLED, ZERO_SHOT), (TRAINED, ZERO_SHOT), (TRAINED, POOLED)):
        for measure in (*MEASURES, NEW) if len(outcome.of(ours, "ndcg_10")) else ():
            pair = outcome.of(ours, measure), outcome.of(theirs, measure)
            found[f"{ours}_minus_{theirs}_{measure}"] = quality.difference(*pair, seed)
            found[f"{ours}_to_{theirs}_{measure}"] = quality.ratio(*pair, seed)
    return found


# ------------------------------------------------- one installation, moment by moment


async def _asked(
    exam: Exam,
    drawing: tuple[int, int],
    readers: Mapping[str, Reader],
    history: HistoryForm,
    say: Say,
) -> Outcome:
    """Return what everybody finds; `drawing` is the seed and number of the members asked."""
    seed, members_max = drawing
    world, outcome, keys = World(exam.data, exam.live_days), Outcome(), Keys()
    facts = PromptFacts(world)
    half_life = _half_life(world, exam.tuning, seed, members_max)
    before: datetime | None = None
    clock = ShiftedClock(exam.questions[0].at)
    async with installation(clock, exam.live_days, history, say) as program:
        for number, question in enumerate(exam.questions, 1):
            say(f"moment {number} of {len(exam.questions)}, {question.at:%Y-%m-%d %H:%M}: loading")
            clock.set(question.at)
            await load(program, exam.data, keys, before, question.at)
            before = question.at
            say("embedding what is new, and fitting")
            await program.feed.fit()
            asked = drawn(world, question, seed, members_max)
            say(f"asking for {len(asked)} members")
            await _moment(
                Stage(program, world, keys, half_life, exam.oracle, facts, readers),
                question,
                asked,
                outcome,
            )
    return outcome


async def _moment(stage: Stage, question: Question, asked: list[int], outcome: Outcome) -> None:
    """Let every system answer one question."""
    world = stage.world
    moment = world.moment(question.at)
    active = set(moment.past_members.tolist())
    words = Words(moment.texts)
    popular = rivals.popularity(moment, stage.half_life)
    feeds = {one: await _feed(stage, one) for one in asked}
    given = {one: world.candidates(one, question.at) for one in asked}
    nearest = await asyncio.to_thread(_nearest, stage, question.at, given)
    for one, candidates in given.items():
        allowed = set(candidates.tolist())
        found = words.scores(rivals.query_of(moment, one))
        rankings = {
            "random": rivals.at_random(candidates, one),
            "newest_first": rivals.newest_first(moment, candidates),
            "popularity_decay": rivals.best(popular[candidates], candidates, moment),
            "bm25": rivals.best(found[candidates], candidates, moment),
            "feed": [post for post in feeds[one] if post in allowed],
        }
        if stage.oracle is not None:
            appeal = stage.oracle(one, candidates)
            rankings[ORACLE] = rivals.best(appeal, candidates, moment)
        for system, near in nearest.items():
            rankings[system] = rivals.best(near[one], candidates, moment)
        outcome.judge(one, question.relevant[one], rankings, new=one not in active)


def _nearest(
    stage: Stage, at: datetime, given: Mapping[int, Places]
) -> dict[str, dict[int, Scores]]:
    """Return how near each encoder's vectors of those asked are to what can be given to them."""
    posts = sorted({post for candidates in given.values() for post in candidates.tolist()})
    found: dict[str, dict[int, Scores]] = {}
    for system, reader in stage.readers.items():
        vectors = encoded(prompts_at(stage.facts, at, list(given), posts, reader), reader)
        found[system] = {one: vectors.nearness(one, places) for one, places in given.items()}
    return found


async def _feed(stage: Stage, member: int) -> list[int]:
    """Return the posts of a member's feed, by number."""
    world, keys = stage.world, stage.keys
    name = world.members[member]
    key = Key(keys.communities[name[0]], keys.members[name])
    page = await stage.program.feed.preview(key, limit=DEPTH)
    names = {community: home for home, community in keys.communities.items()}
    return [
        world.post_of[names[item.view.post.community_id], item.view.post.external_id]
        for item in page.items
    ]


def _half_life(world: World, tuning: Question, seed: int, most: int) -> float:
    """Return the half-life with which popularity does best on the question before the first."""
    moment = world.moment(tuning.at)
    asked = drawn(world, tuning, seed, most)
    candidates = {one: world.candidates(one, tuning.at) for one in asked}

    def judged(days: float) -> float:
        scores = rivals.popularity(moment, days)
        return float(
            np.mean(
                [
                    quality.ndcg(
                        rivals.best(scores[candidates[one]], candidates[one], moment),
                        tuning.relevant[one],
                        10,
                    )
                    for one in asked
                ]
            )
            if asked
            else 0.0
        )

    return rivals.best_half_life(judged)
