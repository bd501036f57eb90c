"""Whatever is put in and taken out, and however it is masked: the index finds what is there."""

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from kinds_of_index import EXACT_KINDS, KINDS, machines

from millrace.community.types import Audience, Key
from millrace.feed.coarse import Coarse
from millrace.feed.index import BLOCK, IndexEntry, PostIndex, Scope

START = datetime(2026, 1, 1, tzinfo=UTC)
DIMS = 8
AUTHORS = [Key(community, author) for community in (1, 2, 3) for author in (1, 2)]
LANGUAGES = ["en", "de", ""]
VECTORS = st.integers(0, 40).map(
    lambda seed: np.random.default_rng(seed).standard_normal(DIMS).astype(np.float32)
)
ENTRIES = st.builds(
    lambda author, number, hours, language, audience: IndexEntry(
        key=Key(author.community_id, number),
        author=author,
        created_at=START + timedelta(hours=hours),
        language=language,
        audience=audience,
    ),
    st.sampled_from(AUTHORS),
    st.integers(1, 30),
    st.integers(0, 5),
    st.sampled_from(LANGUAGES),
    st.sampled_from(Audience),
)
SCOPES = st.builds(
    Scope,
    community_id=st.integers(1, 3),
    nearby=st.frozensets(st.integers(1, 4), max_size=2),
    languages=st.frozensets(st.sampled_from(["en", "de"]), max_size=2),
    created_after=st.integers(0, 5).map(lambda hours: START + timedelta(hours=hours)),
    hidden_authors=st.frozensets(st.sampled_from(AUTHORS), max_size=2),
    without=st.frozensets(
        st.builds(Key, st.integers(1, 3), st.integers(1, 30)), max_size=4
    ),
)  # fmt: skip


def passes(entry: IndexEntry, scope: Scope) -> bool:
    """Say in plain Python what a mask must say."""
    home = entry.key.community_id == scope.community_id
    near = entry.audience is Audience.NEARBY and entry.key.community_id in scope.nearby
    return (
        (home or near or entry.audience is Audience.PUBLIC)
        and (not scope.languages or entry.language in {"", *scope.languages})
        and entry.created_at >= scope.created_after
        and entry.author not in scope.hidden_authors
        and entry.key not in scope.without
    )


class Book(RuleBasedStateMachine):
    """The index beside a dictionary."""

    look = Coarse

    def __init__(self) -> None:
        super().__init__()
        self.index = PostIndex(DIMS, look=self.look)
        self.truth: dict[Key, tuple[IndexEntry, np.ndarray]] = {}

    @rule(entry=ENTRIES, vector=VECTORS)
    def put(self, entry: IndexEntry, vector: np.ndarray) -> None:
        self.index.put(entry, vector)
        self.truth[entry.key] = (entry, vector)

    @rule(key=st.builds(Key, st.integers(1, 3), st.integers(1, 30)))
    def remove(self, key: Key) -> None:
        assert self.index.remove(key) is (self.truth.pop(key, None) is not None)

    @rule(scope=SCOPES, query=VECTORS, k=st.integers(0, 12))
    def search(self, scope: Scope, query: np.ndarray, k: int) -> None:
        visible = [key for key, (entry, _) in self.truth.items() if passes(entry, scope)]
        scores = {key: float(np.dot(self.truth[key][1].astype(float), query)) for key in visible}
        best = sorted(visible, key=lambda key: (round(scores[key], 4), key.id, key.community_id))

        hits = self.index.search(query, k, self.index.mask(scope))

        assert self.index.keys(hits.slots) == best[::-1][:k]
        assert np.allclose(hits.scores, [scores[key] for key in best[::-1][:k]], atol=1e-4)

    @rule(scope=SCOPES, k=st.integers(0, 12))
    def newest(self, scope: Scope, k: int) -> None:
        visible = [entry for entry, _ in self.truth.values() if passes(entry, scope)]
        order = sorted(visible, key=lambda e: (e.created_at, e.key.id, e.key.community_id))

        found = self.index.keys(self.index.newest(k, self.index.mask(scope)))

        assert found == [entry.key for entry in reversed(order)][:k]

    @invariant()
    def knows_its_own(self) -> None:
        assert len(self.index) == len(self.truth)
        for key, (entry, vector) in self.truth.items():
            slot = self.index.find(key)
            assert slot is not None
            assert self.index.entry(slot) == entry
            assert np.array_equal(self.index.vectors([slot])[0], vector)


ENOUGH = settings(max_examples=20, stateful_step_count=30, deadline=None)
globals().update(machines(Book, KINDS, ENOUGH))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    posts=st.integers(1, 5 * BLOCK),
    shares=st.lists(st.sampled_from([0.0, 0.02, 0.3, 0.5, 0.97, 1.0]), min_size=1, max_size=5),
    k=st.sampled_from([1, 7, 100, 500, 6_000]),
)
def test_every_path_of_a_search_is_exact(seed: int, posts: int, shares: list[float], k: int):
    """Blocks that are scanned and blocks that are gathered, alone and mixed, beside plain truth."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((posts, DIMS)).astype(np.float32)
    vectors[rng.random(posts) < 0.2] = vectors[0]  # many ties
    index = PostIndex(DIMS)
    for number, vector in enumerate(vectors):
        entry = IndexEntry(
            key=Key(1, number),
            author=AUTHORS[0],
            created_at=START,
            language="en",
            audience=Audience.PUBLIC,
        )
        index.put(entry, vector)
    mask = index.mask(Scope(community_id=1))
    per_block = rng.choice(shares, size=-(-len(mask) // BLOCK)).repeat(BLOCK)[: len(mask)]
    mask &= rng.random(len(mask)) < per_block
    query = rng.standard_normal(DIMS).astype(np.float32)
    allowed = np.flatnonzero(mask)
    scores = vectors[allowed].astype(np.float64) @ query
    least = np.sort(scores)[::-1][min(k, len(scores)) - 1] if len(scores) else 0.0

    hits = index.search(query, k, mask)

    assert len(hits.slots) == len(set(hits.slots.tolist())) == min(k, len(allowed))
    assert mask[hits.slots].all()
    assert np.all(vectors[hits.slots].astype(np.float64) @ query >= least - 1e-5)
    assert np.all(np.diff(hits.scores) <= 0)
    tied = np.flatnonzero(np.diff(hits.scores) == 0)
    assert np.all(hits.slots[tied] > hits.slots[tied + 1])  # number and slot are the same here

    for look in EXACT_KINDS.values():  # whatever is looked at first: to the last bit
        index.look_through(look)
        glanced = index.search(query, k, mask)
        assert glanced.slots.tolist() == hits.slots.tolist()
        assert glanced.scores.tolist() == hits.scores.tolist()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dims=st.sampled_from([1, 5, 64, 384]),
    spike=st.sampled_from([1.0, 30.0]),
    length=st.sampled_from([1e-3, 1.0, 50.0]),
)
def test_a_first_look_is_never_further_off_than_it_says(seed, dims, spike, length):
    """Whatever the vectors look like, also those that came later or were replaced."""
    rng = np.random.default_rng(seed)
    rows = (length * rng.standard_normal((300, dims))).astype(np.float32)
    rows[:, 0] *= spike
    rows[rng.integers(300)] = 0.0
    coarse = Coarse(rows[:150])
    coarse.grow(rows)
    for row in range(300):
        coarse.changed(row)
    for _ in range(3):
        query = rng.standard_normal(dims).astype(np.float32)
        found = coarse.products(query, len(rows))
        off = np.abs(found.values - rows.astype(np.float64) @ query.astype(np.float64))
        assert np.all(off <= found.off)
        some = np.flatnonzero(rng.random(300) < 0.3)
        fetched = coarse.products(query, some)
        assert np.array_equal(fetched.values, found.values[some])
        assert np.array_equal(fetched.off, found.off[some])
        changed = int(rng.integers(300))
        rows[changed] = rng.standard_normal(dims).astype(np.float32)
        coarse.changed(changed)
