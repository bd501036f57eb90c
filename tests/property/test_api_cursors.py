"""Goal: a cursor continues its own list, and nothing else is a cursor."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.api.errors import MalformedError
from millrace.api.paging import cursor_at, place_in

SECRET = b"a secret for tests, 32 bytes long"
PLACES = st.integers(0, (1 << 63) - 1).map(str)
LISTS = st.sampled_from(["posts:1:None", "posts:2:None", "members:1", "follow:1-2"])


@given(LISTS, PLACES)
def test_a_cursor_brings_back_its_place(listed, place):
    """What was put in comes out."""
    assert place_in(SECRET, listed, cursor_at(SECRET, listed, place)) == place


@given(LISTS, LISTS, PLACES)
def test_a_cursor_of_another_list_is_refused(listed, other, place):
    """A page never continues another list, nor the same list with other filters."""
    cursor = cursor_at(SECRET, listed, place)
    if other != listed:
        with pytest.raises(MalformedError):
            place_in(SECRET, other, cursor)


@given(st.text(min_size=1, max_size=300))
def test_any_text_is_a_clear_error(text):
    """No text of a stranger's making is a place, and none breaks the reader."""
    with pytest.raises(MalformedError) as caught:
        place_in(SECRET, "members:1", text)

    assert caught.value.field == "cursor"


@given(PLACES, st.integers(0, 200), st.characters(categories=["L", "N"]))
def test_one_changed_letter_breaks_the_signature(place, where, letter):
    """A forged place does not hold."""
    cursor = cursor_at(SECRET, "members:1", place)
    at = where % len(cursor)
    forged = cursor[:at] + letter + cursor[at + 1 :]
    with suppress(MalformedError):  # the unused bits of the last letter may differ
        assert place_in(SECRET, "members:1", forged) == place
