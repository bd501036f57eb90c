"""Goal: a post's HTML becomes text that a person can read, and no input breaks that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.world.importers.plain import first_sentence, plain_text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<p>One.</p>\n\n<p>Two &amp; three.</p>\n", "One.\n\nTwo & three."),
        ("<p>Call <code>a &lt; b</code> now</p>", "Call `a < b` now"),
        (
            "<p>See:</p>\n<pre><code>if x:\n    y()\n</code></pre>\n<p>Done.</p>",
            "See:\n\n```\nif x:\n    y()\n\n```\n\nDone.",
        ),
        ("<ul>\n<li>one</li>\n<li><p>two</p></li>\n</ul>", "- one\n- two"),
        ("<blockquote>\n<p>Said.</p>\n</blockquote>\n<p>So.</p>", "> Said.\n\nSo."),
        ('<p>A <a href="https://example.org">link</a>.</p>', "A link."),
        ('<img src="x.png" alt="A graph">', "[picture: A graph]"),
        ("10<sup>5</sup> and H<sub>2</sub>O", "10^5 and H_2O"),
        ("a < b and b > c", "a < b and b > c"),
        ("<p>if a<b then</p>", "if a<b then"),
        ("before<!-- never > shown -->after", "beforeafter"),
        ("line<br>line<br/>line", "line\nline\nline"),
        ("", ""),
    ],
)
def test_html_becomes_text(source, expected):
    assert plain_text(source) == expected


@given(st.text(alphabet=st.sampled_from(list("<>/!-&;apre codl\n`\"'=")), max_size=400))
def test_any_text_is_read(source):
    """No input raises, and none ends in a trailing gap."""
    text = plain_text(source)

    assert text == text.strip()
    assert "\n\n\n" not in text


@pytest.mark.parametrize("hostile", ["<a ", "<!--", "<", "<p><!-", "- \n", "<li> ", "<pre>&"])
def test_hostile_bodies_end(hostile):
    """A megabyte of beginnings is read in one pass; anything quadratic would not end here."""
    assert plain_text(hostile * 150_000) is not None


def test_a_headline_is_a_short_first_sentence():
    assert first_sentence("I row. I also bake.\n\nMore.") == "I row."
    assert first_sentence("No full stop here\nnext") == "No full stop here"
    assert first_sentence("x" * 161) == ""
    assert first_sentence("") == ""
