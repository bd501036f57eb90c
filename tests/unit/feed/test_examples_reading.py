"""A folder of examples is read as it was written, and refused when anything about it is wrong."""

from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from examples_folder import MEMBERS, START, tables, write, write_table
from hypothesis import given
from hypothesis import strategies as st

from millrace.feed.examples.ragged import Ragged
from millrace.feed.examples.reading import EPOCH, Examples
from millrace.feed.examples.types import TABLES
from millrace.feed.examples.writing import fingerprint_of
from millrace.kernel.errors import InvalidError


def test_states_say_what_was_written(tmp_path):
    made = tables()

    examples = Examples(write(tmp_path, made))

    facts = examples.post_facts(7)
    assert (made["wordings"]["title"][3], made["wordings"]["topics"][3]) == (
        facts.title,
        facts.topics,
    )
    assert made["posts"]["percentiles"][7][1] == facts.view_percentile
    assert made["posts"]["numbers"][7][1] == examples.post_numbers(7)["view_percentile"]
    assert examples.said(7).view_percentile is None
    assert made["members"]["headline"][2] == examples.member_facts(2, [facts]).headline


def test_an_unknown_number_is_left_out(tmp_path):
    made = tables()
    made["posts"]["percentiles"][4] = [-1, 5, -1, 7, -1, 9]
    made["posts"]["numbers"][4] = [-1, 50, 0, 70, -1, 90]

    examples = Examples(write(tmp_path, made))

    facts = examples.post_facts(4)
    assert (facts.age_percentile, facts.view_percentile, facts.like_percentile) == (None, 5, None)
    assert examples.post_numbers(4) == {
        "view_percentile": 50, "like_percentile": 0, "comment_percentile": 70, "author_reach_percentile": 90,
    }  # fmt: skip


@given(
    lists=st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=12),
    cuts=st.tuples(st.integers(1, 5), st.integers(0, 12), st.integers(0, 12), st.integers(1, 4)),
)
def test_lists_are_read_where_they_lie(lists: list[list[int]], cuts):
    piece, first, last, rows_max = cuts
    first, last = sorted((min(first, len(lists)), min(last, len(lists))))
    chunks = [
        pa.array(lists[at : at + piece], pa.list_(pa.int32())) for at in range(0, len(lists), piece)
    ]

    ragged = Ragged(pa.chunked_array(chunks, pa.list_(pa.int32())))

    assert [ragged[row].tolist() for row in range(len(lists))] == lists
    assert [len(one) for one in lists] == ragged.lengths.tolist()
    found = [
        pair
        for rows, values in ragged.stretches(first, last, rows_max)
        for pair in zip(rows.tolist(), values.tolist(), strict=True)
    ]
    assert [(row, one) for row in range(first, last) for one in lists[row]] == found


def test_a_split_is_one_time_for_everybody(tmp_path):
    """What was answered only after the split is learned by nobody, and is not tested either."""
    examples = Examples(write(tmp_path, tables()))
    at = examples.whole().time_at(0.5)

    before, behind = examples.split(at + timedelta(minutes=30))

    cut = (at + timedelta(minutes=30) - EPOCH) // timedelta(microseconds=1)
    assert len(before.rows) > 0 < len(behind.rows)
    assert (examples.labelled_until[before.rows] <= cut).all()
    assert (examples.at[behind.rows] >= cut).all()
    assert len(before.rows) + len(behind.rows) == examples.moments - 1  # one was being answered
    earlier, rest = before.split(before.time_at(0.2))
    assert (earlier.until, rest.until) == (examples.at[rest.first], before.until)


def test_a_part_without_moments_has_no_times(tmp_path):
    before, _ = Examples(write(tmp_path, tables())).split(START)

    with pytest.raises(InvalidError, match="no moments"):
        before.time_at(0.5)


def spoil_text(folder: Path, name: str, old: bytes, new: bytes) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes().replace(old, new))


def test_a_changed_file_is_refused(tmp_path):
    write(tmp_path, tables())
    spoil_text(tmp_path, "wordings.arrow", b"trains", b"trajns")

    with pytest.raises(InvalidError, match="its files are"):
        Examples(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda said: said.update(format="examples v9"), "its format is 'examples v9'"),
        (lambda said: said.update(encoding="parquet"), "written as parquet"),
        (lambda said: said.update(fingerprint="0123"), "is of 0123"),
        (lambda said: said.update(tables={}), "no table of wordings"),
        (lambda said: said.pop("cut_at"), "cut_at"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path, change, said):
    with pytest.raises(InvalidError, match=said):
        Examples(write(tmp_path, tables(), change))


def test_no_manifest_and_a_broken_one_are_refused(tmp_path):
    with pytest.raises(InvalidError, match=r"no readable manifest\.json"):
        Examples(tmp_path)

    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InvalidError, match=r"manifest\.json is broken"):
        Examples(tmp_path)


def refingerprinted(folder: Path) -> Path:
    """Write the manifest anew over files that were made by somebody who errs."""
    path = folder / "manifest.json"
    said = msgspec.json.decode(path.read_bytes())
    said["fingerprint"] = fingerprint_of(folder, {name: f"{name}.arrow" for name in TABLES})
    path.write_bytes(msgspec.json.encode(said))
    return folder


def test_a_file_that_ends_early_is_refused(tmp_path):
    write(tmp_path, tables())
    path = tmp_path / "moments.arrow"
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(InvalidError, match=r"moments\.arrow is no whole Arrow file"):
        Examples(refingerprinted(tmp_path))


def test_a_missing_column_and_one_of_another_kind_are_refused(tmp_path):
    write(tmp_path, tables())
    table = pa.table({"post": pa.array([1.5])})
    write_table(tmp_path / "wordings.arrow", table)
    with pytest.raises(InvalidError, match=r"column post of wordings\.arrow is double, not int32"):
        Examples(refingerprinted(tmp_path))

    write_table(tmp_path / "wordings.arrow", pa.table({"post": pa.array([1], pa.int32())}))
    with pytest.raises(InvalidError, match=r"column kind of wordings\.arrow is missing"):
        Examples(refingerprinted(tmp_path))


def late(made):
    made["moments"]["known_until"][5] = made["moments"]["at"][5]


def swapped(made):
    at = made["moments"]["at"]
    at[3], at[4] = at[4], at[3]


def shorter(made):
    made["moments"]["engaged"][6] = made["moments"]["engaged"][6][:-1]


def beyond(made):
    made["moments"]["shown"][6][0] = 10_000


def nobody(made):
    made["moments"]["member_state"][2] = MEMBERS


def empty(made):
    made["moments"]["past"][20] = [None]
    made["moments"]["past_engaged"][20] = [True]


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (late, "moment 5 knows what came 0 us after it or with it"),
        (swapped, "moment 4 is earlier|moment 3 knows"),
        (shorter, "moment 6 has 5 rows of shown and 4 of engaged"),
        (beyond, "shown names row 10000, and there are 120"),
        (nobody, "member_state names row 12, and there are 12"),
        (empty, "column past of moments.arrow has 1 empty places"),
    ],
)
def test_moments_that_cannot_be_are_refused(tmp_path, mistake, said):
    made = tables()
    mistake(made)

    with pytest.raises(InvalidError, match=said) as caught:
        Examples(write(tmp_path, made))

    assert (str(tmp_path), "examples") == (caught.value.value, caught.value.field)


def test_columns_of_a_mapped_file_are_not_copied(tmp_path):
    """The lists of moments are views, so that a folder larger than memory can be learned from."""
    examples = Examples(write(tmp_path, tables()))

    row = next(row for row in range(examples.moments) if len(examples.shown[row]))

    assert not examples.shown[row].flags.owndata
    assert not examples.shown[row].flags.writeable
    assert np.array_equal(examples.shown[row], examples.shown[row])
