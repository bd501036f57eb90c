"""From values to an order."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from millrace.feed import select
from millrace.feed.index import PostIndex
from millrace.feed.records.v2 import Changed, adjustments
from millrace.feed.run import FRESH, SEEN, SERVED, SOURCES, Candidates, candidates
from millrace.feed.types import FeedConfig
from millrace.feed.variants import Plan

CONFIG = FeedConfig()


class Line(NamedTuple):
    """A candidate in one line."""

    number: int
    score: float
    author: int
    tier: int
    source: str


def posts_of(*lines: Line) -> Candidates:
    """Posts as they come out of scoring; row and place in the list are the same."""
    count = len(lines)
    ranks = np.full((count, len(SOURCES)), -1, dtype=np.int32)
    for place, line in enumerate(lines):
        ranks[place, SOURCES.index(line.source)] = 0
    posts = candidates(
        np.zeros(count, dtype=np.int64), PostIndex(1), ranks, np.zeros((count, len(SOURCES)))
    )
    scores = np.array([line.score for line in lines], dtype=np.float64)
    return replace(
        posts,
        ids=np.array([(line.number, 1) for line in lines], dtype=np.int64).reshape(-1, 2),
        authors=np.array([line.author or line.number for line in lines], dtype=np.int64),
        tier=np.array([line.tier for line in lines], dtype=np.int8),
        row=np.arange(count, dtype=np.int32),
        value=scores,
        score=scores,
    )


def candidate(
    number: int, score: float, author: int = 0, tier: int = FRESH, source: str = "network"
) -> Line:
    return Line(number, score, author, tier, source)


def changes(posts: Candidates, place: int) -> list:
    """The adjustments of one post, in words."""
    return adjustments(Changed(*(getattr(posts, n)[place].item() for n in Changed._fields)))


def ordered(lines, vectors, config=CONFIG, **plan) -> Candidates:
    return select.ordered(posts_of(*lines), vectors, Plan(config=config, **plan))


def alone(config: FeedConfig = CONFIG, **changes) -> FeedConfig:
    """No diversity and no slot for new authors, but for what a test wants."""
    plain = {"diversity": 0.0, "exploration_slot": 1_000}
    return replace(config, **(plain | changes))


def apart(count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)


def numbers(found: Candidates) -> list[int]:
    return found.ids[:, 0].tolist()


def test_decay_falls_by_halves_to_its_floor():
    assert select.decay(np.arange(4)).tolist() == pytest.approx([1.0, 0.9, 0.85, 0.825])


def test_an_author_does_not_fill_the_top():
    """The second post of one author falls behind somebody else's slightly worse one."""
    lines = [candidate(1, 1.0, 7), candidate(2, 0.9, 7), candidate(3, 0.85, 8)]
    found = ordered(lines, apart(3), alone())

    assert numbers(found) == [1, 3, 2]
    stage, reason, before, after = changes(found, 2)[0]
    assert (stage, reason) == ("author_decay", "post 2 of one author")
    assert before == 0.9
    assert after == pytest.approx(0.9 * 0.9)


def test_a_score_below_zero_falls_too():
    found = ordered([candidate(1, -1.0, 7), candidate(2, -1.0, 7)], apart(2), alone())

    assert found.score.tolist() == [-1.0, -1.1]


def test_near_posts_are_spread():
    """The twin of the best post comes after the different one."""
    vectors = apart(3)
    vectors[1] = vectors[0]
    lines = [candidate(1, 1.0), candidate(2, 0.95), candidate(3, 0.8)]
    found = ordered(lines, vectors, alone(diversity=1.0))

    assert numbers(found) == [1, 3, 2]
    assert changes(found, 2)[0][:2] == ("diversity", "1.00 near to a post above")


def test_what_is_not_judged_for_diversity_stays_below_the_best():
    """Two are judged; the third is better than what the second was lowered to."""
    vectors = apart(3)
    vectors[1] = vectors[0]
    lines = [candidate(1, 1.0), candidate(2, 0.95), candidate(3, 0.94)]
    found = ordered(lines, vectors, alone(diversity=1.0, diverse_max=2))

    assert numbers(found) == [1, 2, 3]
    assert changes(found, 2)[0][:2] == ("diversity", "below the 2 best")
    assert found.score[2] == found.score[1]


def test_one_new_author_is_lifted_per_stretch():
    old = [candidate(n, 1.0 - n / 100) for n in range(1, 41)]
    new = [candidate(n, 0.1, source="exploration") for n in (41, 42, 43)]

    found = ordered(old + new, apart(43), replace(CONFIG, diversity=0.0))

    places = [at for at, number in enumerate(numbers(found)) if number > 40]
    assert places[:2] == [10, 30]
    assert changes(found, 10)[-1][:2] == ("exploration", "a new author, lifted to place 10")
    assert len(found) == 43


def test_tiers_never_mix():
    found = ordered(
        [candidate(1, 0.1), candidate(2, 5.0, tier=SEEN), candidate(3, 2.0, tier=SERVED)], apart(3)
    )

    assert numbers(found) == [1, 3, 2]


def test_a_feed_has_every_pass():
    """Author decay, diversity and the slot for new authors are all in the order of a feed."""
    of_one = [candidate(1, 1.0, 7), candidate(2, 0.9, 7), candidate(3, 0.85, 8)]
    assert numbers(ordered(of_one, apart(3))) == [1, 3, 2]

    known = [candidate(n, 1.0 - n / 100) for n in range(1, 15)]
    new = candidate(15, 0.1, source="exploration")
    assert numbers(ordered([*known, new], apart(15)))[CONFIG.exploration_slot] == 15


def test_without_an_embedding_the_newest_come_first():
    lines = [candidate(1, 3.0), candidate(5, 1.0), candidate(3, 2.0), candidate(9, 9.0, tier=SEEN)]
    found = select.by_recency(posts_of(*lines))

    assert numbers(found) == [5, 3, 1, 9]
    assert changes(found, 1) == [
        ("select", "by recency, because there is no embedding", 2.0, 0.5)
    ]  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.floats(-5, 5), st.integers(1, 4), st.sampled_from([FRESH, SERVED, SEEN]),
            st.sampled_from(["network", "exploration"]),
        ),
        max_size=30,
    ),
    st.integers(0, 3),
)  # fmt: skip
def test_selection_keeps_every_post_and_explains_every_score(drawn, seed):
    """Nothing is lost, tiers stay in order, adjustments chain from value to score."""
    lines = [
        candidate(n + 1, score, author, tier, source)
        for n, (score, author, tier, source) in enumerate(drawn)
    ]
    vectors = np.random.default_rng(seed).standard_normal((32, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    found = ordered(lines, vectors, FeedConfig(diverse_max=10))

    assert sorted(numbers(found)) == list(range(1, len(drawn) + 1))
    assert found.tier.tolist() == sorted(found.tier.tolist())
    for place in range(len(found)):
        said = changes(found, place)
        chain = [found.value[place], *[change[3] for change in said]]
        assert [change[2] for change in said] == chain[:-1]
        assert chain[-1] == found.score[place]


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 4)), min_size=1, max_size=25),
    st.integers(0, 3), st.floats(0, 2),
)  # fmt: skip
def test_selection_is_what_it_was_row_by_row(drawn, seed, diversity):
    """The passes beside their definition, one post at a time."""
    lines = [candidate(n + 1, score, author) for n, (score, author) in enumerate(drawn)]
    vectors = np.random.default_rng(seed).standard_normal((25, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    config = alone(diversity=diversity, diverse_max=10)

    found = ordered(lines, vectors, config)

    expected = row_by_row(lines, vectors, config)
    by_number = dict(zip(numbers(found), found.score.tolist(), strict=True))
    assert by_number == pytest.approx({line.number: score for line, score in expected}, abs=1e-5)


def row_by_row(lines: list[Line], vectors, config) -> list[tuple[Line, float]]:
    """Author decay and maximal marginal relevance, written down plainly."""
    order = sorted(lines, key=lambda line: (-line.score, -line.number))
    scores, earlier = {}, {}
    for line in order:
        behind = earlier.get(line.author, 0)
        earlier[line.author] = behind + 1
        kept = 0.2 * 0.5**behind + 0.8
        scores[line.number] = line.score - (1 - kept) * abs(line.score)
    order.sort(key=lambda line: (-scores[line.number], -line.number))
    top, rest = order[: config.diverse_max], order[config.diverse_max :]
    if len(top) < 2 or config.diversity <= 0:
        return [(line, scores[line.number]) for line in order]
    spread = scores[top[0].number] - scores[top[-1].number]
    price, chosen = config.diversity * spread, []
    while len(chosen) < len(top):
        left = [line for line in top if line not in [one for one, _ in chosen]]

        def lowered(line: Line) -> float:
            near = max(
                (float(vectors[line.number - 1] @ vectors[o.number - 1]) for o, _ in chosen),
                default=0.0,
            )
            return scores[line.number] - price * max(near, 0.0)

        best = max(left, key=lowered)
        chosen.append((best, lowered(best)))
    last = chosen[-1][1]
    return chosen + [(line, min(scores[line.number], last)) for line in rest]
