"""Goal: whatever bytes are in a dump, each row is told once, good rows survive, nothing raises."""

from xml.sax.saxutils import quoteattr

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from millrace.world.importers.stackexchange import Threads, comments, members, posts, votes
from millrace.world.importers.xmlrows import XmlRow, refusal, xml_rows
from millrace.world.types import Broken, Reached, Reject, Row, Skip

fuzz = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = ["Id", "PostTypeId", "ParentId", "PostId", "UserId", "OwnerUserId", "CreationDate", "Body",
         "Text", "DisplayName", "AboutMe", "Tags", "ViewCount", "VoteTypeId", "Title"]  # fmt: skip
plain = st.text(
    alphabet=st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"),
    max_size=30,
)
attributes = st.dictionaries(
    st.sampled_from(NAMES),
    plain | st.sampled_from(["1", "2", "5", "-1", "2018-03-12T17:00:45.567", "<p>x</p>", "9" * 40]),
    max_size=8,
)
junk = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"<row", b"<row Id='1'", b'<row Id="1" /><row', b"</posts>", b"<posts>", b"&amp;", b"]]>",
         b"<a>", b"<row>", b"<a><b>", b"<row Id='1'>", b"<!DOCTYPE x>", b"<!-- ", b"-->", b"<![CDATA[", b"<row Id=\"&x;\"/>", b"\x00", b"\xff\xfe"]
    ),
)  # fmt: skip


def file_of(tmp_path, *lines, close=True):
    path = tmp_path / "Posts.xml"
    head = b'<?xml version="1.0" encoding="utf-8"?>\n<posts>\n'
    path.write_bytes(head + b"".join(line + b"\n" for line in lines) + b"</posts>" * close)
    return path


def row(values):
    told = " ".join(f"{name}={quoteattr(value)}" for name, value in values.items())
    return f"  <row {told} />".encode()


def told(events):
    """Return the events without progress, each of a known kind."""
    kept = [event for event in events if not isinstance(event, Reached)]
    assert all(isinstance(one, XmlRow | Row | Skip | Reject | Broken) for one in kept)
    assert sum(isinstance(one, Broken) for one in kept) <= 1
    return kept


@fuzz
@given(content=st.binary(max_size=300))
def test_random_bytes(tmp_path, content):
    path = tmp_path / "Posts.xml"
    path.write_bytes(content)

    reason = refusal(path, "posts")
    events = told(xml_rows(path, "posts"))

    assert reason  # no such bytes were ever a dump
    assert not [one for one in events if isinstance(one, XmlRow)]


@fuzz
@given(rows=st.lists(attributes, max_size=8))
def test_every_row_is_one_event(tmp_path, rows):
    """The four readers take or refuse each row once, whatever its attributes say."""
    path = file_of(tmp_path, *(row(values) for values in rows))
    threads = Threads()

    assert len(told(posts(path, "c", threads))) == len(rows)
    for reader, name in ((members, "users"), (comments, "comments"), (votes, "votes")):
        other = tmp_path / "other.xml"
        other.write_bytes(path.read_bytes().replace(b"posts>", name.encode() + b">"))
        given_threads = () if reader is members else (threads,)
        assert len(told(reader(other, "c", *given_threads))) == len(rows)


@fuzz
@example(bad=[b"<A>"])
@example(bad=[b"<row>", b"<A>"])
@example(bad=[b"<row Id='x'>"])
@example(bad=[b'<row Id="'])
@given(bad=st.lists(junk.filter(lambda one: b"\n" not in one and b"\r" not in one), max_size=3))
def test_rows_after_junk_are_found(tmp_path, bad):
    """Junk of a line costs no row that begins on a later line, unless it says that the file ends."""
    good = [row({"Id": str(number)}) for number in range(6)]
    lines = [good[0], *bad, *good[1:]]
    whole = b"\n".join(bad)

    events = told(xml_rows(file_of(tmp_path, *lines), "posts"))

    found = [one.values.get("Id") for one in events if isinstance(one, XmlRow)]
    ends = any(part in whole for part in (b"</", b"<!--", b"<![", b"<!", b"<?", b"<posts>"))
    if not ends:
        assert {str(number) for number in range(6)} <= set(found)
    assert all(isinstance(one, XmlRow | Reject | Broken) for one in events)


@fuzz
@given(keep=st.integers(60, 700))
def test_a_cut_file_says_so(tmp_path, keep):
    whole = file_of(tmp_path, *(row({"Id": str(number), "Body": "x" * 9}) for number in range(20)))
    content = whole.read_bytes()
    whole.write_bytes(content[:keep])

    events = told(xml_rows(whole, "posts"))

    rows = [one for one in events if isinstance(one, XmlRow)]
    broken = [one for one in events if isinstance(one, Broken)]
    assert len(rows) == content[:keep].count(b"/>")
    assert bool(broken) == (keep < len(content))
    assert sum(isinstance(one, Reject) for one in events) <= 1
