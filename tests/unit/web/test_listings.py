"""Search results, cases, profiles and forms: what their templates are given."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.community.asked_words import Marked
from millrace.community.moves import Move, Thing, ThingKind
from millrace.community.search import Place
from millrace.community.types import Audience, Key
from millrace.kernel.errors import InvalidError
from millrace.web.asked import Form
from millrace.web.cases import address_of, choices_of, query_of, record_of
from millrace.web.forms import changed_post, listed, number_of, reach_of, version_of, words_of
from millrace.web.profiles import language_name
from millrace.web.search_page import (
    SearchForm,
    excerpt_of,
    place_text,
    post_query,
    read_place,
    stretches,
)

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@given(st.text(max_size=40), st.lists(st.integers(0, 40), max_size=8))
def test_marks_lose_and_move_nothing(text, cuts):
    """The stretches put together are the text, whatever matched."""
    cuts = sorted({min(cut, len(text)) for cut in cuts})
    ranges = list(zip(cuts[::2], cuts[1::2], strict=False))
    found = stretches(Marked(text, ranges))

    assert "".join(piece.text for piece in found) == text
    assert [piece.text for piece in found if piece.hit] == [text[a:b] for a, b in ranges]


@pytest.mark.parametrize(
    ("excerpt", "expected"),
    [
        ("The tide is early. Boats wait", "The tide is early. Boats wait"),
        ("The tide is", "The tide is …"),
        ("early. Boats", "… early. Boats …"),
        ("The tide … Boats wait", "The tide … Boats wait"),
        ("tide … wait", "… tide … wait"),
        ("words of another text", "words of another text"),
        ("", ""),
    ],
)
def test_an_excerpt_says_what_it_leaves_out(excerpt, expected):
    """Dots stand where words are missing, and not for a full stop alone."""
    found = excerpt_of(Marked(excerpt, []), "The tide is early. Boats wait.")

    assert "".join(piece.text for piece in found) == expected


@given(st.integers(0, 2**31), st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1))
def test_a_place_in_the_results_is_read_as_it_was_written(score, community, number):
    """Microseconds included: a result must neither repeat nor be lost."""
    place = Place(NOW.replace(microsecond=123_457), score, Key(community, number))

    assert read_place(place_text(place)) == place


@pytest.mark.parametrize("text", ["x", "1.2", "1.2.3", "a.b.1-2", "9" * 40 + ".1.1-2", "1.2.1-x"])
def test_a_place_that_is_none_is_refused(text):
    """An address that was edited is no failure of ours."""
    with pytest.raises(InvalidError):
        read_place(text)


def test_a_search_keeps_what_its_list_understands():
    """The kind is of posts alone; the community also of people; communities have no filter."""
    form = SearchForm(query="a b&c", community="7", kind="note", since="week")

    assert form.address("posts") == "/search?q=a+b%26c&community=7&kind=note&since=week"
    assert form.address("members") == "/search?q=a+b%26c&by=members&community=7"
    assert form.address("communities") == "/search?q=a+b%26c&by=communities"
    assert (NOW - post_query(form, NOW).since).days == 7
    with pytest.raises(InvalidError, match="kind 'x' does not exist"):
        post_query(SearchForm(query="a", kind="x"), NOW)


def test_moves_come_mildest_first_and_say_what_they_mean():
    """What cannot be taken back stands last, and is marked."""
    found = choices_of(list(Move))

    assert found[0].value == "dismiss"
    assert [one.value for one in found][-2:] == ["ban", "remove"]
    assert {one.value for one in found if one.harsh} == {"ban", "remove"}
    assert all(one.means and one.icon for one in found)


def test_a_thing_has_its_place():
    """A comment is seen in its thread, and nowhere when the thread is not known."""
    comment = Thing(ThingKind.COMMENT, Key(1, 9))

    assert address_of(comment, Key(1, 2)) == "/posts/1-2#comment-1-9"
    assert address_of(comment, None) == ""
    assert address_of(Thing(ThingKind.MEMBER, Key(1, 3)), None) == "/members/1-3"


@pytest.mark.parametrize(
    ("earlier", "upheld", "said"),
    [(0, 0, "No earlier case"), (1, 0, "1 earlier case, none upheld"), (4, 3, "4 earlier cases, 3 upheld")],
)  # fmt: skip
def test_a_record_is_told_in_words(earlier, upheld, said):
    """Nothing, one, or many."""
    assert record_of(earlier, upheld) == said


def test_who_sees_a_post_is_named():
    """Each audience says who that is; many communities are cut."""
    near = reach_of("Mill Lane", ["A", "B", "C", "D", "E", "F"])

    assert [one.value for one in near] == [audience.value for audience in Audience]
    assert near[0].words == "Members of Mill Lane, and nobody else."
    assert near[1].words == "Also members of A, B, C, D and 2 others."
    assert reach_of("Mill Lane", [])[1].words == "No community is near this one."
    assert listed(["A"]) == "A"


def test_forms_read_words_numbers_and_versions():
    """Empty words fall out, ids of 19 digits fit, and more is refused."""
    assert words_of(" #bees, , # ,a b ") == ["#bees", "a b"]
    assert number_of("9223372036854775807") == 2**63 - 1
    assert version_of(Form({})) is None
    assert version_of(Form({"version": "12"})) == 12
    for text in ("9223372036854775808", "²", "-1", "1 ", ""):
        with pytest.raises(InvalidError):
            number_of(text)
    changes = changed_post(Form({"text": "x", "topics": "#a", "title": ""}))
    assert (changes.topics, changes.title, changes.language) == (["a"], "", "en")


def test_languages_are_named():
    """A region stays visible, an unknown tag is its own name."""
    assert language_name("de") == "German"
    assert language_name("pt-BR") == "Portuguese (pt-BR)"
    assert language_name("tlh") == "tlh"
    assert query_of(a="", b="1 2") == "?b=1+2"
