"""Cursors, version 1."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.community.types import Key
from millrace.feed.cursor import Cursor, sign, verify
from millrace.kernel.errors import InvalidError

SECRET = b"a secret for tests, 32 bytes long"
PLACE = Cursor(Key(7, 99), 123, date(2026, 3, 1), 20)


def test_format_is_frozen():
    """A cursor that is out there today is read by tomorrow's release."""
    text = sign(PLACE, SECRET)

    assert text == "1.7-99.123.20260301.20.80b5d1f62804d4b133a7a50164b7437d"
    assert verify(text, PLACE.member, SECRET) == PLACE


@given(st.text(max_size=300))
def test_any_other_text_is_refused(text):
    with pytest.raises(InvalidError):
        verify(text, PLACE.member, SECRET)


@given(st.integers(0, 60), st.characters())
def test_one_changed_character_is_noticed(place, other):
    text = sign(PLACE, SECRET)
    place %= len(text)
    changed = text[:place] + other + text[place + 1 :]
    if changed != text:
        with pytest.raises(InvalidError):
            verify(changed, PLACE.member, SECRET)


def test_another_secret_or_member_is_refused():
    with pytest.raises(InvalidError, match="is not one that this feed gave out"):
        verify(sign(PLACE, b"another secret"), PLACE.member, SECRET)
    with pytest.raises(InvalidError, match="belongs to another member"):
        verify(sign(PLACE, SECRET), Key(7, 98), SECRET)
