"""Text of members becomes paragraphs, lines and links, and nothing else."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millrace.web.local import local_path
from millrace.web.text import FOLD_CHARACTERS, body_of, excerpt, host_of, link_of, pieces_of

ODD = st.text(alphabet=st.sampled_from("ab /\\:.@?#%&'\"<>()[]\t\nhtpsjavcri0é"), max_size=60)


@given(st.one_of(st.text(max_size=300), ODD, ODD.map(lambda tail: "see https://" + tail)))
@example("(https://example.org/a_(b)), then")
def test_pieces_lose_nothing_and_link_only_to_the_web(line):
    """Cutting at links keeps every character, and only http and https are linked."""
    pieces = pieces_of(line)

    assert line == "".join(piece.text for piece in pieces)
    for piece in pieces:
        if piece.href:
            parts = urlsplit(piece.href)
            assert parts.scheme.lower() in {"http", "https"}
            assert parts.netloc
            assert not set(piece.href) & set(" <>\"'\n\t")


@pytest.mark.parametrize(
    ("line", "links"),
    [
        ("See https://example.org/a.", ["https://example.org/a"]),
        ("(https://example.org/wiki/Mill_(race))", ["https://example.org/wiki/Mill_(race)"]),
        ("https://example.org, http://example.com!", ["https://example.org", "http://example.com"]),
        ("javascript:alert(1) data:text/html,x ftp://example.org", []),
        ('https://example.org/"onmouseover="x', ["https://example.org/"]),
        ("https://", []),
        ("http://[::1", []),
        ("HTTPS://Example.ORG/x", ["HTTPS://Example.ORG/x"]),
    ],
)
def test_links(line, links):
    """A link ends where the sentence goes on."""
    assert links == [piece.href for piece in pieces_of(line) if piece.href]


def test_paragraphs_and_folding():
    """Blank lines part paragraphs, every kind of line end counts, long text folds."""
    body = body_of("one\r\ntwo\r\rthree\n \n\n\nfour\n")

    assert [len(paragraph) for paragraph in body.paragraphs] == [2, 1, 1]
    assert not body.folds
    assert body_of("x" * (FOLD_CHARACTERS + 1)).folds
    assert body_of("x\n" * 9).folds
    assert body_of(" \n ").paragraphs == []


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://example.org/x", True),
        ("javascript:alert(1)", False),
        (" https://example.org", False),
        ("//example.org", False),
        ("http:", False),
        ("", False),
    ],
)
def test_link_of(address, kept):
    """Only an address of the web may stand behind a card's link."""
    assert (address if kept else "") == link_of(address)


def test_labels():
    """A host is shown without www; an excerpt ends at a word."""
    assert host_of("https://www.example.org:8000/a") == "example.org"
    assert host_of("http://[") == ""
    assert excerpt("a  short\ntext", 40) == "a short text"
    assert excerpt("one two three", 9) == "one two…"


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example",
        "/\t/evil.example", "javascript:alert(1)", "", "posts/1", "/%0d%0aSet-Cookie:x\r\ny",
        "/sign-in?next=/", "/sign-out", "/v1/me", "/static/app.js", "/" + "a" * 3000, "/ /x",
    ],
)  # fmt: skip
def test_nobody_is_sent_away(wanted):
    """After signing in, everything but a page of this site leads to the feed."""
    assert local_path(wanted) == "/"


@given(st.one_of(st.text(max_size=80), ODD.map(lambda tail: "/" + tail)))
def test_a_local_path_stays_on_this_host(wanted):
    """Whatever is asked for, a browser that follows it stays on the host."""
    path = local_path(wanted)
    dropped = path.translate({9: None, 10: None, 13: None}).replace("\\", "/")

    assert urlsplit(urljoin("http://own.example/sign-in", dropped)).netloc == "own.example"


@pytest.mark.parametrize("wanted", ["/", "/posts/1-2", "/?cursor=a.b-c_d&seen=1", "/why/1-2#x"])
def test_pages_are_kept(wanted):
    """A page of this site is where the member wanted to go."""
    assert local_path(wanted) == wanted
