"""Goal: transactions go out whole where they fit, in bounded parts where not, with true places."""

import struct

from hypothesis import given
from hypothesis import strategies as st
from river_messages import HERE, INT8, POST, TEXT, begin, change, commit, name, relation, row

from millrace.store.changes.transactions import Parcel, Transactions
from millrace.store.changes.types import MESSAGES, Operation

MAX = 5
TOMBSTONE = relation(
    "tombstone",
    ("community_id", INT8, True),
    ("table_name", TEXT, True),
    ("key", TEXT, True),
    ("system_version", INT8, False),
    number=3,
)


def insert(number: int) -> bytes:
    return change(b"I", b"N" + row(b"1", b"%d" % number, b"x"))


def taking(*messages: bytes, tables: tuple[str, ...] = ("post",)) -> Transactions:
    made = Transactions(tables, {}, HERE, changes_max=MAX)
    for message in (begin(100), TOMBSTONE, POST, commit(100, 101), *messages):
        made.take(message)
    return made


def drained(taken: Transactions) -> list[Parcel]:
    parcels = []
    while (parcel := taken.cut()) is not None:
        parcels.append(parcel)
    return parcels


def test_a_transaction_waits_until_it_is_whole():
    """What is open does not go out as long as it may fit; what is behind a commit goes."""
    taken = taking(begin(110, 7), insert(1), commit(110, 120), begin(130, 8), insert(2))
    (first,) = drained(taken)
    taken.take(commit(130, 140))
    (second,) = drained(taken)

    assert [c.key for c in first.changes] == [(1, 1)]
    assert (first.lsn, first.xids) == (120, {7})
    assert [(c.position.lsn, c.number, c.transaction) for c in second.changes] == [(140, 0, 8)]
    assert second.lsn == 140


def test_a_large_transaction_goes_in_parts():
    """No part has a place; all changes have one inside of their commit; numbers go on."""
    taken = taking()
    drained(taken)
    taken.take(begin(110))
    parts = []
    for number in range(12):
        taken.take(insert(number))
        if taken.full:
            parts += drained(taken)
    taken.take(commit(110, 120))
    parts += drained(taken)

    assert [len(p.changes) for p in parts] == [5, 5, 2]
    assert [p.lsn for p in parts] == [None, None, 120]
    everything = [c for p in parts for c in p.changes]
    assert [c.number for c in everything] == list(range(12))
    assert {c.position.lsn for c in everything} == {111}, "110 may be where another one ends"


def test_bytes_count_too():
    """A few large rows are as heavy as many small ones."""
    taken = Transactions({"post"}, {}, HERE, bytes_max=100)
    for message in (begin(110), POST, change(b"I", b"N" + row(b"1", b"1", b"x" * 90))):
        taken.take(message)

    assert taken.full
    assert [len(p.changes) for p in drained(taken)] == [1]
    assert not taken.full


def test_the_place_follows_what_the_server_has_sent():
    """Where nothing is for us; never in the middle of a transaction, never backwards."""
    taken = taking()
    drained(taken)
    taken.seen(150)
    taken.seen(140)
    (parcel,) = drained(taken)
    assert (parcel.changes, parcel.lsn) == ([], 150)

    taken.take(begin(160))
    taken.take(insert(1))
    taken.seen(155)
    assert drained(taken) == []
    taken.take(commit(160, 170))
    assert [p.lsn for p in drained(taken)] == [170]


def test_an_empty_transaction_moves_the_place():
    """All of it was of tables that nobody wants."""
    taken = taking(begin(110), commit(110, 120))

    assert [(p.changes, p.lsn) for p in drained(taken)] == [([], 120)]


def tombstone(table: bytes, key: bytes, version: bytes) -> bytes:
    return change(b"I", b"N" + row(b"1", table, key, version), number=3)


def deleted(number: int) -> bytes:
    return change(b"D", b"K" + row(b"1", b"%d" % number, None))


def test_a_delete_has_the_version_of_its_tombstone():
    """Its own, of its own table, of its own transaction; else none."""
    taken = taking(
        begin(110), tombstone(b"post", b"1", b"8"), deleted(1), deleted(1),
        tombstone(b"other", b"2", b"9"), deleted(2), tombstone(b"post", b"3", b"4"),
        commit(110, 120), begin(130), deleted(3), commit(130, 140),
    )  # fmt: skip

    found = [(c.table, c.key[1], c.version) for p in drained(taken) for c in p.changes]
    assert found == [("post", 1, 8), ("post", 1, None), ("post", 2, None), ("post", 3, None)]


def test_tombstones_come_where_they_are_wanted():
    """They are rows like others then."""
    taken = taking(
        begin(110), tombstone(b"post", b"1", b"8"), commit(110, 120), tables=("tombstone",)
    )

    assert [c.table for p in drained(taken) for c in p.changes] == ["tombstone"]


def test_messages_come_where_they_are_wanted():
    """Only those of a transaction: the others belong to no commit."""
    said = name("note") + struct.pack("!i", 2) + b"ab"
    inside = b"M" + struct.pack("!bq", 1, 60) + said
    outside = b"M" + struct.pack("!bq", 0, 60) + said
    taken = taking(outside, begin(110), inside, commit(110, 120), tables=(MESSAGES,))
    taken_by_none = taking(begin(110), inside, commit(110, 120))

    (change_,) = (c for p in drained(taken) for c in p.changes)
    assert (change_.op, change_.after) == (
        Operation.MESSAGE,
        {"prefix": "note", "content": b"ab"},
    )
    assert [p.changes for p in drained(taken_by_none)] == [[]]


@given(
    sizes=st.lists(st.integers(0, 3 * MAX), max_size=8),
    cuts=st.lists(st.booleans(), min_size=1, max_size=40),
)
def test_nothing_is_lost_doubled_or_out_of_order(sizes, cuts):
    """Whenever a parcel is asked for: all changes once, in order, bounded, and places that hold."""
    taken = taking()
    drained(taken)
    messages: list[bytes] = []
    ends: list[tuple[int, int]] = []  # how many changes lie before each end
    number, lsn = 0, 200
    for size in sizes:
        messages.append(begin(lsn))
        messages += [insert(number + n) for n in range(size)]
        number += size
        messages.append(commit(lsn, lsn + 10))
        ends.append((lsn + 10, number))
        lsn += 20
    parcels: list[Parcel] = []
    for place, message in enumerate(messages):
        taken.take(message)
        if taken.full or cuts[place % len(cuts)]:
            parcels += drained(taken)
    parcels += drained(taken)

    given_out = [c for p in parcels for c in p.changes]
    assert [c.key[1] for c in given_out] == list(range(number))
    assert all(len(p.changes) < 2 * MAX for p in parcels)
    order = [(c.position.lsn, c.number) for c in given_out]
    assert order == sorted(set(order))
    before = 0
    for parcel in parcels:
        before += len(parcel.changes)
        if parcel.lsn is not None:
            assert before >= max([n for end, n in ends if end <= parcel.lsn], default=0)
            assert all(c.position.lsn <= parcel.lsn for c in parcel.changes)
