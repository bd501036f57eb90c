"""Goal: a query file is read as it is written, and mistakes in it are found when it is loaded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.store.queries import Queries, load, parse

TWO = """
-- A remark about the file, for nobody.

-- name: one
-- Why it exists.
-- And more.
select 1;

-- name: two
-- A second.
select a -- kept: it is inside a line
  from b
 where c = %(c)s
"""


def test_names_descriptions_and_texts():
    """Comments above a query describe it; the statement stays as it stands."""
    found = parse(TWO)

    assert list(found) == ["one", "two"]
    assert found["one"].description == "Why it exists. And more."
    assert found["one"].text == "select 1"
    assert found["two"].text.startswith("select a -- kept")


def test_mistakes_are_named():
    """Twice the same name, or no statement."""
    with pytest.raises(ValueError, match="'one' is defined twice"):
        parse(TWO + TWO)
    with pytest.raises(ValueError, match="'none' has no text"):
        parse("-- name: none\n-- Only words.\n")


def test_an_unknown_name_lists_the_known():
    """The typing mistake is seen at once."""
    room = Queries("millrace.room", parse(TWO))
    with pytest.raises(LookupError, match=r"millrace\.room has no query 'three'; it has: one, two"):
        room["three"]

    assert room.names() == ["one", "two"]


def test_the_store_has_its_queries():
    """Package data is found wherever the package lies."""
    assert "position" in load("millrace.store").names()


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,10}", fullmatch=True), st.integers(), max_size=5))
def test_what_is_written_is_read(queries):
    """Any number of blocks."""
    text = "\n".join(
        f"-- name: {name}\n-- Why.\nselect {value};" for name, value in queries.items()
    )

    assert {name: found.text for name, found in parse(text).items()} == {
        name: f"select {value}" for name, value in queries.items()
    }
