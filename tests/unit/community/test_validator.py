"""Goal: every value is cleaned in one way, or refused with its field, value, limit and next step."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.community import validator
from millrace.community.types import Audience
from millrace.kernel.errors import InvalidError, TooLargeError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def refused(call, *args):
    with pytest.raises(InvalidError) as caught:
        call(*args)
    assert caught.value.field
    assert caught.value.next_step
    return caught.value


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=50))
def test_cleaning_twice_is_cleaning_once(text):
    """Else the same import twice would change something."""
    for clean in (validator.line, validator.prose):
        once = clean("f", text, 200)
        assert clean("f", once, 200) == once


def test_no_text_moves_the_cursor_or_turns_its_neighbours():
    """Terminals and pages show names of strangers beside other text."""
    assert validator.line("f", "a\x1b[2Jb\u202ec\u2066d", 20) == "a [2Jbcd"
    assert validator.prose("f", "a\x07b\n\tc\x85", 20) == "a b\n\tc"


@given(
    st.lists(st.sampled_from(["e", " ", "\u0301", "\u20dd", "\u202e", "\u200d", "\U000e0100"] * 4))
)
def test_no_letter_paints_over_the_lines_around(letters):
    """Marks by the hundred cover the page; what scripts write stays, and cleaning is stable."""
    text = "x" + "".join(letters) + "e" + "\u0301\u20dd" * 200 + "y"
    for clean in (validator.line, validator.prose):
        once = clean("f", text, 2_000)
        assert clean("f", once, 2_000) == once
        assert not re.search("[\u0301\u20dd\u200d\U000e0100]{9}", once)
        assert once.endswith("e" + "\u0301\u20dd" * 4 + "y")
    assert validator.line("f", "שָּׁלוֹם", 20) == "שָּׁלוֹם"


def test_lines_and_prose():
    """A line has single spaces; prose keeps its lines, with one kind of ending."""
    assert validator.line("f", "  a \t b\nc ", 9) == "a b c"
    assert validator.prose("f", "\r\n a\r\nb\rc \n", 9) == "a\nb\nc"


@pytest.mark.parametrize("call", [validator.line, validator.name, validator.prose, validator.body])
def test_lengths_count_what_is_left(call):
    """The limit is for the cleaned text; the message names both numbers."""
    assert call("f", " 12345 ", 5) == "12345"
    with pytest.raises(TooLargeError, match=r"^f has 6 characters, 5 are allowed$") as caught:
        call("f", "123456", 5)
    assert (caught.value.value, caught.value.limit) == (6, 5)


@pytest.mark.parametrize("call", [validator.name, validator.body])
@pytest.mark.parametrize("text", ["", "  ", "\n\t", "\x1b", "\u200b\u200d"])
def test_empty(call, text):
    """What must be there must be visible."""
    assert refused(call, "title", text, 5).message == "title is empty"


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\ud83d", "a\udc00"])
@pytest.mark.parametrize("call", [validator.line, validator.name, validator.prose, validator.body])
def test_what_cannot_be_stored(call, text):
    """NUL and half characters are refused, not dropped."""
    refused(call, "f", text, 9)


def test_words():
    """Empty words go, the first of equals stays, the place of a wrong one is named."""
    assert validator.words("f", [" b ", "a", "", "b"], 9) == ["b", "a"]
    assert refused(validator.words, "f", ["a", "x" * 61], 9).field == "f[1]"
    assert refused(validator.words, "f", ["a"] * 10, 9).limit == 9


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://a",
        "https://example.org/x?y=1#z",
        "https://example.org:8443/",
        "https://ü.example/ö",
        "http://[::1]/",
    ],
)
def test_addresses_of_the_web(address):
    """What a browser opens as a page is taken."""
    assert validator.link("link", f" {address} ") == address


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "ftp://a", "//a", "a", "http://", "http:///x", "https://user:pass@a/", "http://a b",
     "http://a\nb", "http://a\u202eb", "http://a:99999", "http://a:x", "http://[::1", "https:\\\\a", "data:text/html,x",
     "HTTP:a", "http://\x00", "http://" + "a" * 2_000],
)  # fmt: skip
def test_what_is_no_address(address):
    """Anything else is refused: links are clicked by others."""
    refused(validator.link, "link", address)


def test_languages():
    """Tags are two or three letters and parts."""
    assert validator.language("f", " EN ") == "en"
    assert validator.languages("f", ["pt-BR", "de", "de"], 5) == ["pt-BR", "de"]
    assert validator.languages("f", ["German", " deutsch ", "Français"], 5) == ["de", "fr"]
    for tag in ("", "e", "Klingon", "en_US", "en-", "12"):
        refused(validator.language, "f", tag)


def test_handles():
    """Small letters, digits and marks between them."""
    assert validator.handle("f", "Ann.O-1", 9) == "ann.o-1"
    for text in ("", "-a", "a-", "a b", "ö", "a/b"):
        refused(validator.handle, "f", text, 9)


def test_moments():
    """UTC, from 1970 to a minute ahead."""
    east = timezone(timedelta(hours=2))
    assert validator.moment("f", None, NOW) == NOW
    assert (
        validator.moment("f", datetime(2025, 1, 1, 2, tzinfo=east), NOW).isoformat()
        == "2025-01-01T00:00:00+00:00"
    )
    assert validator.moment("f", NOW + timedelta(seconds=60), NOW)
    for moment in (NOW.replace(tzinfo=None), NOW + timedelta(seconds=61), datetime(1969, 12, 31, tzinfo=UTC),
                   datetime.max.replace(tzinfo=east), datetime.min.replace(tzinfo=UTC)):  # fmt: skip
        refused(validator.moment, "f", moment, NOW)


def test_choices_and_numbers():
    """What is unknown or outside is named with what is allowed."""
    assert validator.choice("f", "public", Audience) is Audience.PUBLIC
    assert "community, nearby, public" in str(refused(validator.choice, "f", "all", Audience).limit)
    assert validator.number("f", 0) == 0
    for value in (-1, 1 << 31):
        refused(validator.number, "f", value)
    for value in (0, -5, 1_001):
        refused(validator.limit, value)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_searching_takes_any_text(text):
    """A text that cannot be stored cannot be found, and is no error of the database."""
    found = validator.searchable(text)
    assert "\x00" not in found
    found.encode()
