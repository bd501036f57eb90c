"""`millrace evaluate five-sources`: what one encoder finds, beside the five ways that it replaces.

At each moment of an exam every source gives the same number of candidates for the same members, out
of the same posts, with what was known then: each old source by itself, all of them in turns, and a
trained encoder where one is named. What the old ones may choose they choose on an earlier question,
in a town on one of the same kind; the union has a second form whose shares are chosen there too,
and a third, where the untrained encoder pools histories as the feed does (docs/decisions/0158).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from itertools import chain

import msgspec
import numpy as np
from msgspec import Struct

from millrace.feed.pooled_history import PooledHistory
from millrace.lab import quality, report, rivals
from millrace.lab.collaborative import GRID
from millrace.lab.exam import Exam, Question, World, drawn
from millrace.lab.figures import Figures
from millrace.lab.prompt_facts import PromptFacts
from millrace.lab.quality import DEPTH, Difference
from millrace.lab.rivals import Places
from millrace.lab.sources import (
    NAMES,
    Dials,
    Given,
    Shares,
    Sources,
    outside,
    tuned_shares,
    union,
    young,
)
from millrace.lab.trained import Trained
from millrace.lab.vectors import (
    Reader,
    Vectors,
    encoded,
    in_both_forms,
    lent_encoder,
    prompts_at,
)

YOUNG_DAYS = 1.0
RECALL = f"recall_{DEPTH}"
NEW_MEMBERS = f"{RECALL}_new_members"  # without a positive engagement at the moment
ACTIVE_MEMBERS = f"{RECALL}_active_members"  # the others
NEW_POSTS = f"{RECALL}_new_posts"  # of those, what was written in the last day before the moment
OUTSIDE = f"{RECALL}_out_of_network"  # of those, what was written by somebody they do not follow
FIRST = "recall_10"  # among the first ten: where there are few candidates, a hundred say nothing
FIRST_NEW_MEMBERS = f"{FIRST}_new_members"
MEASURES = (RECALL, NEW_MEMBERS, ACTIVE_MEMBERS, NEW_POSTS, OUTSIDE, FIRST, FIRST_NEW_MEMBERS)
UNIONS = ("union", "union_tuned", "union_pooled")
ZERO_SHOT = NAMES[-1]  # the untrained encoder that reads a history in the prompt: the old source
POOLED = f"{ZERO_SHOT}_pooled"  # the same encoder, where the vectors of liked posts are pooled
TRAINED = "trained"
PACKAGES = ("torch", "implicit")

Say = Callable[[str], None]


class Asked(Struct, frozen=True):
    """One member at one moment: what may be given, what they liked, what each source has.

    renewed: the same sources, with the pooled form of the untrained encoder in the place of the old.
    """

    member: int
    candidates: Places
    relevant: frozenset[int]
    given: Given
    renewed: Given


class Stage(Struct, frozen=True):
    """Everything that stays while moments are asked one after the other."""

    exam: Exam
    world: World
    facts: PromptFacts
    zero_shot: Reader
    pooled: Reader
    trained: Reader | None
    seed: int
    members_max: int


def run(
    exam: Exam, seed: int, members_max: int, model: Trained | None, say: Say
) -> dict[str, object]:
    """Evaluate the five sources, their union, and a trained encoder.

    Args:
        exam: the data set and its questions.
        seed: of the members drawn, of the factorisation, of the bootstrap.
        members_max: how many members are asked at each moment.
        model: a trained encoder, if there is one.
        say: told of progress.

    Returns:
        The keys of BENCH.md for `five-sources`.
    """
    start = report.begin(seed)
    figures = Figures()
    with ExitStack() as lent:
        packaged = lent.enter_context(lent_encoder(None))
        zero_shot, pooled = in_both_forms(packaged, PooledHistory())
        stage = Stage(
            exam=exam,
            world=(world := World(exam.data, exam.live_days)),
            facts=PromptFacts(world),
            zero_shot=zero_shot,
            pooled=pooled,
            trained=lent.enter_context(lent_encoder(model.model)) if model else None,
            seed=seed,
            members_max=members_max,
        )
        say("choosing what the old sources may choose, on an earlier question")
        earlier = exam.rehearsal() if exam.rehearsal else exam.tuning
        dials = _dials(stage, earlier)
        say("choosing the shares of the unions there")
        shares, renewed = _shares(stage, earlier, dials)
        for number, question in enumerate(exam.questions, 1):
            say(f"moment {number} of {len(exam.questions)}, {question.at:%Y-%m-%d %H:%M}")
            _moment(stage, question, dials, (shares, renewed), figures)
    names = [
        *NAMES,
        POOLED,
        *UNIONS,
        *([TRAINED] if model else []),
        *(["oracle"] if exam.oracle else []),
    ]
    systems: dict[str, object] = {
        name: figures.means(name, MEASURES) for name in ("random", *names)
    }
    return report.finish(
        start,
        {
            "data": exam.name,
            "split_time": exam.questions[0].at.isoformat(),
            "moments": len(exam.questions),
            "posts": len(exam.data.posts),
            "members": len(figures.of("union", RECALL)),
            "new_members": len(figures.of("union", NEW_MEMBERS)),
            "candidates": DEPTH,
            "model": msgspec.to_builtins(model, enc_hook=str),
            "systems": {TRAINED: None, **systems},
            "differences": msgspec.to_builtins(_differences(figures, model is not None, seed)),
            "dials": {
                **msgspec.to_builtins(dials),
                "union_shares": dict(zip(NAMES, shares, strict=True)),
                "union_pooled_shares": dict(zip((*NAMES[:-1], POOLED), renewed, strict=True)),
            },
            "pooled": msgspec.to_builtins(PooledHistory()),
            **exam.settings,
        },
        PACKAGES,
    )


def _differences(figures: Figures, trained: bool, seed: int) -> dict[str, Difference | None]:
    """Return how far one encoder leads: the trained one before all, over the union before all."""
    found: dict[str, Difference | None] = {}
    encoders = ((TRAINED,) if trained else ()) + (ZERO_SHOT, POOLED)
    for ours in encoders:
        for theirs in (*UNIONS, *NAMES, POOLED):
            for measure in MEASURES:
                pair = figures.of(ours, measure), figures.of(theirs, measure)
                if theirs != ours:
                    lead = quality.difference(*pair, seed) if len(pair[0]) else None
                    found[f"{ours}_minus_{theirs}_{measure}"] = lead
    for ours, theirs in ((TRAINED, ZERO_SHOT), (TRAINED, POOLED), (POOLED, ZERO_SHOT)):
        for measure in MEASURES if ours in encoders else ():
            pair = figures.of(ours, measure), figures.of(theirs, measure)
            found[f"{ours}_to_{theirs}_{measure}"] = (
                quality.ratio(*pair, seed) if len(pair[0]) else None
            )
    return found


# ------------------------------------------------- one moment


def _moment(
    stage: Stage,
    question: Question,
    dials: Dials,
    shares: tuple[Shares, Shares],
    figures: Figures,
) -> None:
    """Let every system answer one question."""
    world, oracle = stage.world, stage.exam.oracle
    sources = Sources(world, question.at, dials, stage.seed)
    asked = _asked(stage, question, sources)
    ours = _vectors(stage, stage.trained, question.at, asked) if stage.trained else None
    active = set(sources.moment.past_members.tolist())
    for one in asked:
        rankings = {name: sources.alone(one.given[name], one.candidates) for name in NAMES}
        rankings["union"] = union(one.given)
        rankings["union_tuned"] = union(one.given, shares[0])
        rankings["union_pooled"] = union(one.renewed, shares[1])
        rankings[POOLED] = one.renewed[ZERO_SHOT]
        rankings["random"] = rivals.at_random(one.candidates, one.member)
        if ours is not None:
            near = ours.nearness(one.member, one.candidates)
            rankings[TRAINED] = rivals.best(near, one.candidates, sources.moment)
        if oracle is not None:
            appeal = oracle(one.member, one.candidates)
            rankings["oracle"] = rivals.best(appeal, one.candidates, sources.moment)
        parts = {
            RECALL: one.relevant,
            FIRST: one.relevant,
            NEW_POSTS: young(sources.moment, one.relevant, YOUNG_DAYS),
            OUTSIDE: outside(world, sources.followed(one.member), one.relevant),
        }
        if one.member in active:
            parts[ACTIVE_MEMBERS] = one.relevant
        else:
            parts |= {NEW_MEMBERS: one.relevant, FIRST_NEW_MEMBERS: one.relevant}
        _judge(figures, one.member, parts, rankings)


def _judge(
    figures: Figures,
    member: int,
    parts: Mapping[str, frozenset[int]],
    rankings: Mapping[str, Sequence[int]],
) -> None:
    """Note what share of each part of what a member liked was among the candidates."""
    for measure, relevant in parts.items():
        depth = 10 if measure in (FIRST, FIRST_NEW_MEMBERS) else DEPTH
        if relevant:
            for system, ranking in rankings.items():
                figures.note(system, measure, member, quality.recall(ranking, relevant, depth))


def _asked(stage: Stage, question: Question, sources: Sources) -> list[Asked]:
    """Return the members asked, with what each source has for them."""
    members = drawn(stage.world, question, stage.seed, stage.members_max)
    bare = [
        Asked(one, stage.world.candidates(one, question.at), question.relevant[one], {}, {})
        for one in members
    ]
    old = _vectors(stage, stage.zero_shot, question.at, bare)
    new = _vectors(stage, stage.pooled, question.at, bare)
    return [_given(sources, one, old, new) for one in bare]


def _given(sources: Sources, one: Asked, old: Vectors, new: Vectors) -> Asked:
    """Return a member with what each source has for them, by both forms of the encoder."""
    given = sources.given(one.member, one.candidates, old.nearness(one.member, one.candidates))
    near = new.nearness(one.member, one.candidates)
    renewed = {**given, ZERO_SHOT: rivals.best(near, one.candidates, sources.moment)}
    return msgspec.structs.replace(one, given=given, renewed=renewed)


def _vectors(stage: Stage, encoder: Reader, at: datetime, asked: Sequence[Asked]) -> Vectors:
    """Return the vectors of members and of all that may be given to one of them."""
    posts = sorted(set(chain.from_iterable(one.candidates.tolist() for one in asked)))
    members = [one.member for one in asked]
    return encoded(prompts_at(stage.facts, at, members, posts, encoder), encoder)


# ------------------------------------------------- what the old ones choose


def _dials(stage: Stage, question: Question) -> Dials:
    """Return the dials with which each old source does best on an earlier question."""
    world = stage.world
    members = drawn(world, question, stage.seed, stage.members_max)
    candidates = {one: world.candidates(one, question.at) for one in members}

    def judged(dials: Dials, name: str) -> float:
        sources = Sources(world, question.at, dials, stage.seed)
        found: list[float] = []
        for one in members:
            given = sources.alone(sources.of(name, one, candidates[one]), candidates[one])
            found.append(quality.recall(given, question.relevant[one], DEPTH))
        return float(np.mean(found)) if found else 0.0

    chosen = Dials()
    for name, field, values in (
        ("network", "followed_first", (False, True)),
        ("trending", "trending_days", rivals.HALF_LIVES_DAYS),
        ("trending_place", "trending_place_days", rivals.HALF_LIVES_DAYS),
        ("collaborative", "collaborative", GRID),
    ):
        tried = [msgspec.structs.replace(chosen, **{field: value}) for value in values]
        chosen = max(tried, key=lambda one: judged(one, name))
    return chosen


def _shares(stage: Stage, question: Question, dials: Dials) -> tuple[Shares, Shares]:
    """Return the shares with which the union of each form does best on an earlier question."""
    sources = Sources(stage.world, question.at, dials, stage.seed)
    asked = _asked(stage, question, sources)

    def judged(rows: Sequence[Given], shares: Shares) -> float:
        found = [
            quality.recall(union(given, shares), one.relevant, DEPTH)
            for one, given in zip(asked, rows, strict=True)
        ]
        return float(np.mean(found)) if found else 0.0

    old, new = [one.given for one in asked], [one.renewed for one in asked]
    return tuned_shares(partial(judged, old)), tuned_shares(partial(judged, new))
