"""Goal: whatever comes as a message is read or refused with words; nothing else happens."""

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river_messages import HERE, INT8, POST, begin, change, commit, name, relation, row

from millrace.kernel.errors import InvalidError
from millrace.store.changes.pgoutput import (
    Begin,
    Commit,
    Decoder,
    RowChange,
    Said,
    Truncated,
)
from millrace.store.changes.transactions import Transactions
from millrace.store.changes.types import MESSAGES, UNCHANGED, Operation
from millrace.store.changes.values import reader_of

BOOL = 16


def decoder(*tables: str, **keys: tuple[str, ...]) -> Decoder:
    return Decoder(tables or ("post",), keys)


def test_messages_of_a_transaction():
    """Each kind gives what it says."""
    read = decoder().read

    assert read(begin(70)) == Begin(70, datetime(2000, 1, 1, 0, 0, 1, tzinfo=UTC), 5)
    assert read(commit(70, 90)) == Commit(70, 90)
    assert read(b"O" + struct.pack("!q", 1) + name("there")) is None
    assert read(b"Y" + struct.pack("!I", 3) + name("public") + name("mood")) is None
    said = b"M" + struct.pack("!bq", 1, 60) + name("note") + struct.pack("!i", 2) + b"\xff\0"
    assert read(said) == Said("note", b"\xff\0", True)


def test_rows():
    """New rows, old keys, old rows, and what the log leaves out."""
    read = decoder().read
    assert read(POST) is None
    new = {"community_id": 1, "post_id": 2, "body": "hé"}

    assert read(change(b"I", b"N" + row(b"1", b"2", "hé".encode()))) == RowChange(
        Operation.CREATE, "post", (1, 2), None, new
    )
    assert read(change(b"U", b"N" + row(b"1", b"2", UNCHANGED))).after["body"] is UNCHANGED
    moved = read(change(b"U", b"K" + row(b"1", b"7", None) + b"N" + row(b"1", b"2", b"x")))
    assert moved.before == {"community_id": 1, "post_id": 7}
    whole = read(change(b"U", b"O" + row(b"1", b"7", None) + b"N" + row(b"1", b"2", b"x")))
    assert whole.before == {"community_id": 1, "post_id": 7, "body": None}
    gone = read(change(b"D", b"K" + row(b"1", b"2", None)))
    assert (gone.key, gone.before, gone.after) == (
        (1, 2),
        {"community_id": 1, "post_id": 2},
        None,
    )


def test_tables_nobody_wants_are_not_decoded():
    """Not even looked at: what is in their rows may be anything."""
    read = decoder().read
    read(relation("other", ("id", INT8, True), number=4))

    assert read(change(b"I", b"nonsense", number=4)) is None
    both = b"T" + struct.pack("!ibII", 2, 0, 4, 9)
    read(POST)
    assert read(both) == Truncated(("post",))


def test_keys_stand_in_the_order_of_the_catalog():
    """The log has the columns' order; where log and catalog name another key, the log is newer."""
    read = decoder("post", post=("post_id", "community_id")).read
    read(POST)
    assert read(change(b"I", b"N" + row(b"1", b"2", b"x"))).key == (2, 1)

    read(relation("post", ("community_id", INT8, False), ("number", INT8, True)))
    assert read(change(b"I", b"N" + row(b"1", b"3"))).key == (3,)


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        (BOOL, b"t", True),
        (17, b"\\x00ff", b"\0\xff"),
        (21, b"-32768", -32768),
        (700, b"0.1", 0.1),
        (701, b"-Infinity", float("-inf")),
        (1184, b"2026-11-21 13:50:12.5+00", datetime(2026, 11, 21, 13, 50, 12, 500000, UTC)),
        (1184, b"infinity", "infinity"),
        (1184, b"4713-01-01 00:00:00+00 BC", "4713-01-01 00:00:00+00 BC"),
        (3220, b"1A/2B", "1A/2B"),
        (3802, b'{"a": 1}', '{"a": 1}'),
        (1009, b"{}", []),
        (1009, b'{a,"b \\"c\\\\, {}",""}', ["a", 'b "c\\, {}', ""]),
        (1009, b"{NULL,a}", "{NULL,a}"),
        (1009, b'{"NULL"}', ["NULL"]),
        (1009, b"{{a},{b}}", "{{a},{b}}"),
        (1009, b"[2:3]={a,b}", "[2:3]={a,b}"),
        (1016, b"{1,-2}", [1, -2]),
        (1016, b"{1,NULL}", "{1,NULL}"),
        (1016, b"{{1},{2}}", "{{1},{2}}"),
        (1022, b"{0.5,NaN}", None),
    ],
)
def test_values(kind, written, value):
    """Typed where the type is known and Python has the value; text otherwise."""
    found = reader_of(kind)(written)

    if value is None:
        assert (found[0], str(found[1])) == (0.5, "nan")
    else:
        assert found == value
        assert type(found) is type(value)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_arrays_of_text_come_back(texts):
    """Quoted as PostgreSQL quotes: whatever is in the elements."""
    quoted = ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts]

    assert reader_of(1009)(("{" + ",".join(quoted) + "}").encode()) == texts


GOOD = [
    begin(70),
    POST,
    change(b"I", b"N" + row(b"1", b"2", b"text")),
    change(b"U", b"K" + row(b"1", b"2", None) + b"N" + row(b"1", b"3", UNCHANGED)),
    change(b"D", b"K" + row(b"1", b"2", None)),
    b"T" + struct.pack("!ibI", 1, 0, 9),
    b"M" + struct.pack("!bq", 1, 60) + name("note") + struct.pack("!i", 2) + b"ab",
    commit(70, 90),
]


def survives(messages: list[bytes]) -> None:
    """Read them all; the only way to fail is the error that says so."""
    taken = Transactions({"post", MESSAGES}, {}, HERE, changes_max=3)
    for message in messages:
        try:
            taken.take(message)
        except InvalidError:
            return
        if taken.full:
            taken.cut()
    taken.cut()


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes(messages):
    """Noise."""
    survives(messages)


@given(st.sampled_from(GOOD), st.data())
def test_damaged_messages(message, data):
    """Cut short, or with one byte changed: lengths that lie, kinds that are none, broken UTF-8."""
    end = data.draw(st.integers(0, len(message)))
    short = message[:end]
    place = data.draw(st.integers(0, len(message) - 1))
    other = bytes([data.draw(st.integers(0, 255))])
    changed = message[:place] + other + message[place + 1 :]

    for damaged in (short, changed):
        survives([begin(70), POST, damaged, *GOOD[2:]])


@given(st.lists(st.sampled_from(GOOD), max_size=12))
def test_messages_in_any_order(messages):
    """A change outside of a transaction or of an unknown table is refused like the rest."""
    survives(messages)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"", "unknown kind"),
        (b"Z123", "unknown kind"),
        (b"B123", "cannot be read"),
        (change(b"I", b"N" + row(b"1")), "1 columns, not 3"),
        (change(b"I", b"K" + row(b"1", b"2", b"3")), "has to stand"),
        (change(b"I", b"N" + row(b"1", b"2", b"\xff")), "cannot be read"),
        (change(b"I", b"N" + row(b"1", b"two", b"x")), "cannot be read"),
        (change(b"I", b"N" + struct.pack("!hci", 3, b"t", 1 << 30)), "ends behind the message"),
        (change(b"I", b"N" + struct.pack("!hci", 3, b"t", -5)), "ends behind the message"),
        (change(b"I", b"N" + struct.pack("!hci", 3, b"b", 0)), "not asked for"),
        (change(b"I", b"N", number=77), "never described"),
        (change(b"D", b"N"), "without its old row"),
        (b"T" + struct.pack("!ib", 1 << 30, 0), "cannot be read"),
        (b"R" + struct.pack("!I", 1) + b"public", "without an end"),
        (b"M" + struct.pack("!bq", 1, 60) + b"\0" + struct.pack("!i", 1 << 30), "bytes"),
    ],
)
def test_refusals_say_what_came(message, words):
    """What it was, and the first bytes of it."""
    read = decoder().read
    read(POST)
    with pytest.raises(InvalidError, match=words) as caught:
        read(message)

    assert caught.value.value == message[:40].hex()


def test_outside_of_a_transaction():
    """Changes belong to a commit."""
    taken = Transactions({"post"}, {}, HERE)
    taken.take(POST)
    with pytest.raises(InvalidError, match="outside of a transaction"):
        taken.take(change(b"I", b"N" + row(b"1", b"2", b"x")))
    with pytest.raises(InvalidError, match="commit without a beginning"):
        taken.take(commit(70, 90))
