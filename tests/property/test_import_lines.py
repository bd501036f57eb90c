"""Goal: whatever bytes are in a file, each of its lines is told exactly once, and nothing raises."""

import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.community.types import PostDraft
from millrace.world.importers.directory import Anchors, rows_of
from millrace.world.types import Broken, Reached, Reject, Row, Skip

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ANCHORS = Anchors("quay", {"quay": NOW})
fuzz = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
names = st.sampled_from(
    ["external_id", "author", "text", "title", "kind", "topics", "created_at", "views", "community",
     "audience", "link", "colour"]
)  # fmt: skip
plausible = st.sampled_from(
    ["quay", "note", "public", "-P1D", "-P1DT2H", "-P", "-PX", "2026-01-01", "0001-01-01T00:00:00+14:00",
     "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00Z", ["a"], 3]
)  # fmt: skip
objects = st.dictionaries(names, values | plausible, max_size=10)


def good(number):
    return {"external_id": f"p{number}", "author": "ada", "text": "t"}


def read(path, noun="posts"):
    """Return (lines told, drafts, whether the file broke); a line told twice fails here."""
    told, drafts, broken = [], [], False
    for event in rows_of(path, noun, ANCHORS):
        match event:
            case Row():
                told.append(event.place.line)
                drafts += event.drafts
            case Skip():
                told.append(event.place.line)
            case Reject():
                assert event.reason
                assert event.file == path.name
                told.append(event.line)
            case Broken():
                broken = True
            case Reached():
                assert 0 <= event.done <= event.total
    assert len(told) == len(set(told))
    return told, drafts, broken


def number_of_lines(content):
    return len(io.BytesIO(content).readlines())


@fuzz
@given(content=st.binary(max_size=400))
def test_random_bytes(tmp_path, content):
    path = tmp_path / "posts.jsonl"
    path.write_bytes(content)

    told, _, broken = read(path)

    assert told == [*range(1, number_of_lines(content) + 1)]
    assert not broken


@fuzz
@given(rows=st.lists(objects | values, max_size=6))
def test_wrong_types(tmp_path, rows):
    """A draft has the types that it promises, or there is none."""
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))

    told, drafts, _ = read(path)

    assert told == [*range(1, len(rows) + 1)]
    for draft in drafts:
        assert isinstance(draft, PostDraft)
        assert isinstance(draft.text, str)
        assert draft.created_at is None or draft.created_at.tzinfo is not None


@fuzz
@given(
    junk=st.lists(st.binary(max_size=30).filter(lambda one: b"\n" not in one), max_size=5),
    places=st.lists(st.integers(0, 10), max_size=5),
)
def test_good_rows_survive_bad_neighbours(tmp_path, junk, places):
    lines = [json.dumps(good(number)).encode() for number in range(10)]
    for line, place in zip(junk, places, strict=False):
        lines.insert(place, line)
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")

    told, drafts, _ = read(path)

    assert len(told) == len(lines)
    assert {f"p{number}" for number in range(10)} <= {draft.external_id for draft in drafts}


@fuzz
@given(keep=st.integers(0, 2_000))
def test_a_cut_file_gives_what_stood_before(tmp_path, keep):
    whole = b"".join(json.dumps(good(number)).encode() + b"\n" for number in range(40))
    path = tmp_path / "posts.jsonl"
    path.write_bytes(whole[:keep])

    told, drafts, _ = read(path)

    assert len(told) == number_of_lines(whole[:keep])
    # A cut leaves all rows but the one that it goes through; before a line's end even that one.
    assert len(told) - 1 <= len(drafts) <= len(told)


WHOLE_GZ = gzip.compress(b"".join(json.dumps(good(n)).encode() + b"\n" for n in range(300)))


@fuzz
@given(
    keep=st.integers(0, len(WHOLE_GZ)),
    place=st.integers(0, len(WHOLE_GZ) - 1),
    byte=st.integers(0, 255),
)
def test_damaged_gzip(tmp_path, keep, place, byte):
    damaged = bytearray(WHOLE_GZ)
    damaged[place] = byte
    path = tmp_path / "posts.jsonl.gz"
    path.write_bytes(bytes(damaged[:keep]))

    told, _, broken = read(path)

    assert told == [*range(1, len(told) + 1)]
    assert broken or len(told) == 300 or keep == 0 or damaged != WHOLE_GZ


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """A whole Parquet file."""
    path = tmp_path_factory.mktemp("parquet") / "posts.parquet"
    pq.write_table(pa.Table.from_pylist([good(number) for number in range(50)]), path)
    return Path(path).read_bytes()


@settings(fuzz, max_examples=60)
@given(share=st.floats(0, 1))
def test_a_cut_parquet_file(tmp_path, parquet, share):
    path = tmp_path / "posts.parquet"
    path.write_bytes(parquet[: int(len(parquet) * share)])

    told, _, broken = read(path)

    assert broken or len(told) == 50


@settings(fuzz, max_examples=60)
@given(content=st.binary(max_size=200))
def test_random_bytes_as_parquet(tmp_path, content):
    path = tmp_path / "posts.parquet"
    path.write_bytes(b"PAR1" + content + b"PAR1")

    told, _, broken = read(path)

    assert broken
    assert told == []
