"""The exact index: who is found, in which order, and what a mask lets through."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from millrace.community.types import Audience, Key
from millrace.feed.index import BLOCK, IndexEntry, PostIndex, Scope
from millrace.feed.threshold import SAMPLE_STEP

START = datetime(2026, 1, 1, tzinfo=UTC)
DIMS = 4


def entry(
    number: int,
    *,
    community: int = 1,
    author: int = 7,
    language: str = "en",
    audience: Audience = Audience.PUBLIC,
    hours: int = 0,
) -> IndexEntry:
    return IndexEntry(
        key=Key(community, number),
        author=Key(community, author),
        created_at=START + timedelta(hours=hours),
        language=language,
        audience=audience,
    )


def unit(*values: float) -> np.ndarray:
    vector = np.array([*values, *[0.0] * (DIMS - len(values))], dtype=np.float32)
    return vector / np.linalg.norm(vector)


def found(index: PostIndex, scope: Scope) -> set[int]:
    hits = index.search(unit(1), 100, index.mask(scope))
    return {key.id for key in index.keys(hits.slots)}


def test_an_empty_index_finds_nothing():
    index = PostIndex(DIMS)

    assert len(index) == 0
    assert len(index.search(unit(1), 5).slots) == 0
    assert len(index.search(unit(1), 5, index.mask(Scope(community_id=1))).slots) == 0
    assert len(index.newest(5)) == 0
    assert index.find(Key(1, 1)) is None


def test_finds_the_nearest_first():
    index = PostIndex(DIMS)
    index.put(entry(1), unit(1, 1))
    index.put(entry(2), unit(1, 0))
    index.put(entry(3), unit(0, 1))

    hits = index.search(unit(1), 2)

    assert index.keys(hits.slots) == [Key(1, 2), Key(1, 1)]
    assert hits.scores == pytest.approx([1.0, 0.7071], abs=1e-4)
    assert np.array_equal(index.vectors(hits.slots), np.stack([unit(1, 0), unit(1, 1)]))


def test_the_next_search_sees_an_insert_an_edit_and_a_delete():
    index = PostIndex(DIMS)
    index.put(entry(1), unit(0, 1))
    assert found(index, Scope(community_id=1)) == {1}

    index.put(entry(1, language="de"), unit(1))
    assert len(index) == 1
    assert index.search(unit(1), 1).scores == pytest.approx([1.0])
    assert found(index, Scope(community_id=1, languages=frozenset({"en"}))) == set()

    assert index.remove(Key(1, 1))
    assert not index.remove(Key(1, 1))
    assert found(index, Scope(community_id=1)) == set()
    assert index.find(Key(1, 1)) is None


def test_a_delete_counts_even_under_an_older_mask():
    index = PostIndex(DIMS)
    index.put(entry(1), unit(1))
    mask = index.mask(Scope(community_id=1))
    index.remove(Key(1, 1))

    assert len(index.search(unit(1), 5, mask).slots) == 0


def test_an_older_mask_fits_after_a_growth():
    index = PostIndex(DIMS)
    index.put(entry(1), unit(1))
    mask = index.mask(Scope(community_id=1))[:1]
    for number in range(2, 3 * BLOCK):
        index.put(entry(number), unit(1))

    assert index.keys(index.search(unit(1), 5, mask).slots) == [Key(1, 1)]


@pytest.mark.parametrize(
    ("community", "audience", "passes"),
    [
        (1, Audience.COMMUNITY, True),
        (1, Audience.NEARBY, True),
        (1, Audience.PUBLIC, True),
        (2, Audience.COMMUNITY, False),
        (2, Audience.NEARBY, True),
        (2, Audience.PUBLIC, True),
        (3, Audience.COMMUNITY, False),
        (3, Audience.NEARBY, False),
        (3, Audience.PUBLIC, True),
    ],
)
def test_audience(community: int, audience: Audience, passes: bool):
    """A member of 1, near 2 and far from 3."""
    index = PostIndex(DIMS)
    index.put(entry(5, community=community, audience=audience), unit(1))

    assert bool(found(index, Scope(community_id=1, nearby=frozenset({2})))) is passes


def test_languages():
    index = PostIndex(DIMS)
    for number, language in enumerate(["en", "de", ""], start=1):
        index.put(entry(number, language=language), unit(1))

    assert found(index, Scope(community_id=1)) == {1, 2, 3}
    assert found(index, Scope(community_id=1, languages=frozenset({"de", "fr"}))) == {2, 3}


def test_age_is_inclusive():
    index = PostIndex(DIMS)
    for hours in range(3):
        index.put(entry(hours + 1, hours=hours), unit(1))

    assert found(index, Scope(community_id=1, created_after=START + timedelta(hours=1))) == {2, 3}


def test_hidden_authors_and_single_posts():
    index = PostIndex(DIMS)
    for number in range(1, 5):
        index.put(entry(number, author=number % 2), unit(1))
    hidden = frozenset({Key(1, 1), Key(1, 99)})

    assert found(index, Scope(community_id=1, hidden_authors=hidden)) == {2, 4}
    assert found(
        index, Scope(community_id=1, hidden_authors=hidden, without=frozenset({Key(1, 4)}))
    ) == {2}


def test_equal_scores_go_to_the_newest_id_wherever_they_lie():
    """A full scan, a gather and odd ends of both give equal vectors equal scores."""
    rng = np.random.default_rng(3)
    index = PostIndex(384)
    same = rng.standard_normal(384).astype(np.float32)
    for number in rng.permutation(2 * BLOCK + 5).tolist():
        index.put(entry(number), same)
    query = rng.standard_normal(384).astype(np.float32)
    mask = index.mask(Scope(community_id=1))
    thin = mask & (rng.random(len(mask)) < 0.05)
    mixed = mask & ((np.arange(len(mask)) < BLOCK) | thin)

    for chosen in (mask, thin, mixed):
        hits = index.search(query, 40, chosen)
        expected = sorted((key.id for key in index.keys(np.flatnonzero(chosen))), reverse=True)

        assert [key.id for key in index.keys(hits.slots)] == expected[:40]
        assert len(set(hits.scores.tolist())) == 1


def test_newest_first():
    index = PostIndex(DIMS)
    for number, hours in enumerate([5, 1, 9, 9], start=1):
        index.put(entry(number, hours=hours), unit(1))
    mask = index.mask(Scope(community_id=1, without=frozenset({Key(1, 1)})))

    assert [key.id for key in index.keys(index.newest(3))] == [4, 3, 1]
    assert [key.id for key in index.keys(index.newest(9, mask))] == [4, 3, 2]
    assert len(index.newest(0)) == 0


def test_grows_and_uses_freed_slots_again():
    index = PostIndex(DIMS)
    for number in range(3 * BLOCK):
        index.put(entry(number), unit(1))
    for number in range(2 * BLOCK):
        index.remove(Key(1, number))
    for number in range(5 * BLOCK, 7 * BLOCK):
        index.put(entry(number), unit(0, 1))

    assert len(index) == 3 * BLOCK
    assert max(index.newest(3 * BLOCK).tolist()) < 3 * BLOCK  # no slot beyond the old ones
    assert len(found(index, Scope(community_id=1))) == 100
    assert index.search(unit(1), 1).scores == pytest.approx([1.0])


@pytest.mark.parametrize("vector", [unit(1)[:3], np.full(DIMS, np.nan, np.float32)])
def test_a_vector_of_no_use_is_a_mistake_of_ours(vector: np.ndarray):
    with pytest.raises(AssertionError, match="is not"):
        PostIndex(DIMS).put(entry(1), vector)


def test_a_sample_that_misleads_costs_time_and_no_post():
    """Every sixteenth post is among the best: a threshold guessed from them is far too high."""
    index = PostIndex(DIMS)
    for number in range(4 * BLOCK):
        near = number % SAMPLE_STEP == 0
        index.put(entry(number), unit(1) if near else unit(1, 1 + number / BLOCK))

    others = [number for number in range(4 * BLOCK) if number % SAMPLE_STEP]

    hits = index.search(unit(1), 500)

    assert [key.id for key in index.keys(hits.slots)][256:] == others[:244]
