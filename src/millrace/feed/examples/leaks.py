"""Looks for the future in examples, before anybody learns from them.

Each check reads what the tables say and trusts nothing that cut them. It goes through the moments a
stretch at a time and holds the times of all states, so it takes seconds for a million impressions.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from millrace.feed.examples.types import MEMBERS, MOMENTS, POSTS, Manifest
from millrace.feed.examples.writing import fingerprint_of, manifest_of
from millrace.kernel.errors import InvalidError

ROWS = 8_192  # moments that are looked at together
NAMED_MAX = 5
MICROSECONDS = 1_000_000

Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


class LeakError(InvalidError):
    """Examples know their own future; to learn from them would be to look at the answers."""


class Leak(Struct, frozen=True):
    """One rule that is broken. moments: rows of moments, some of them. count: how many break it."""

    rule: str
    count: int
    moments: list[int]

    def __str__(self) -> str:
        named = ", ".join(map(str, self.moments))
        return f"{self.rule} (moments {named}; {self.count:,} in all)"


class States(Struct, frozen=True):
    """What is checked against: states by their rows.

    post: of a state of a post. known_at: of the states of posts. member: of a state of a member.
    """

    post: Ints
    author: Ints
    known_at: Ints
    member: Ints
    member_known_at: Ints
    cut_at: int
    label: int
    answers: "Answers"

    def names(self, one: "Stretch", lists: "Lists") -> Ints:
        """Return a number for each member and post of a column of states."""
        member = self.member[one.numbers("member_state")]
        posts = int(self.post.max(initial=0)) + 1
        return member[lists.rows] * posts + self.post[lists.values]


class Answers(Struct, frozen=True):
    """Who engaged with what, as answers: names in their order, and the last moment of each."""

    names: Ints
    last: Ints


class Lists(Struct, frozen=True):
    """A column of lists: all values, and the row of each."""

    values: NDArray[Any]
    rows: Ints

    def any(self, broken: Bools, count: int) -> Bools:
        """Return which rows have a value that is broken."""
        found = np.zeros(count, dtype=np.bool_)
        found[self.rows[broken]] = True
        return found


class Stretch:
    """Some moments, column by column."""

    def __init__(self, batch: Any, first: int) -> None:
        self._batch = batch
        self.first = first
        self.count: int = batch.num_rows

    def times(self, name: str) -> Ints:
        """Return a column of times."""
        return _ints(self._batch.column(name))

    def numbers(self, name: str) -> Ints:
        """Return a column of whole numbers."""
        return _ints(self._batch.column(name))

    def flags(self, name: str) -> Bools:
        """Return a column of truth values."""
        return self._batch.column(name).to_numpy(zero_copy_only=False).astype(np.bool_)

    def lists(self, name: str) -> Lists:
        """Return a column of lists."""
        column = self._batch.column(name)
        lengths = np.asarray(column.value_lengths().to_numpy(zero_copy_only=False), dtype=np.int64)
        values = column.flatten()
        flat = (
            _ints(values)
            if "bool" not in str(values.type)
            else values.to_numpy(zero_copy_only=False)
        )
        return Lists(flat, np.repeat(np.arange(len(lengths)), lengths))


Rule: TypeAlias = Callable[[Stretch, States], Bools]


def _known(one: Stretch, states: States) -> Bools:
    return one.times("known_until") >= one.times("at")


def _states(one: Stretch, states: States) -> Bools:
    at, found = one.times("at"), np.zeros(one.count, dtype=np.bool_)
    for name in ("positives", "past", "shown"):
        lists = one.lists(name)
        found |= lists.any(states.known_at[lists.values] >= at[lists.rows], one.count)
    return found | (states.member_known_at[one.numbers("member_state")] >= at)


def _history(one: Stretch, states: States) -> Bools:
    lists, at = one.lists("positives_at"), one.times("at")
    return lists.any(lists.values >= at[lists.rows], one.count)


def _times(one: Stretch, states: States) -> Bools:
    """Return which moments have a history whose posts and times are not as many."""
    posts, times = one.lists("positives"), one.lists("positives_at")
    counts = (np.bincount(lists.rows, minlength=one.count) for lists in (posts, times))
    return np.not_equal(*counts)


def _honest(one: Stretch, states: States) -> Bools:
    until, found = one.times("known_until"), np.zeros(one.count, dtype=np.bool_)
    for name in ("positives", "shown"):
        lists = one.lists(name)
        found |= lists.any(states.known_at[lists.values] > until[lists.rows], one.count)
    lists = one.lists("positives_at")
    found |= lists.any(lists.values > until[lists.rows], one.count)
    return found | (states.member_known_at[one.numbers("member_state")] > until)


def _answers(one: Stretch, states: States) -> Bools:
    """Return which moments have a shown post in their own history."""
    posts = int(states.post.max(initial=0)) + 1
    before, shown = one.lists("positives"), one.lists("shown")
    given = before.rows * posts + states.post[before.values]
    asked = shown.rows * posts + states.post[shown.values]
    return shown.any(np.isin(asked, given), one.count)


def _split(one: Stretch, states: States) -> Bools:
    """Return which moments have an engagement in their history that a later one has as its answer.

    A post that was engaged with before is shown in no example, so an answer is the first engagement,
    and no history up to then can hold it: wherever time is split, none holds what comes behind.
    """
    lists, known = one.lists("positives"), states.answers
    if not len(known.names):
        return np.zeros(one.count, dtype=np.bool_)
    names = states.names(one, lists)
    places = np.minimum(np.searchsorted(known.names, names), len(known.names) - 1)
    early = (known.names[places] == names) & (lists.rows + one.first <= known.last[places])
    return lists.any(early, one.count)


def _labels(one: Stretch, states: States) -> Bools:
    at, until = one.times("at"), one.times("labelled_until")
    lone = one.flags("lone")
    return (until > states.cut_at) | (until < at) | (~lone & (until - at > states.label))


def _own(one: Stretch, states: States) -> Bools:
    shown = one.lists("shown")
    member = states.member[one.numbers("member_state")]
    return shown.any(states.author[shown.values] == member[shown.rows], one.count)


RULES: tuple[tuple[str, Rule], ...] = (
    ("something that a moment says was not known before it", _known),
    ("a state is of the moment or later", _states),
    ("an engagement of the moment or later is in the history", _history),
    ("not every post of the history has its time", _times),
    ("known_until is earlier than something that is said", _honest),
    ("what was shown is in the history: the answer is given away", _answers),
    ("an engagement is in the history of a moment and the answer of a later one", _split),
    ("answers were not complete when they were cut", _labels),
    ("a member was shown a post of their own", _own),
)
ORDER = "moments are not in the order of time"
FINGERPRINT = "the tables are not those that the manifest names"


def check(folder: Path) -> Manifest:
    """Check a folder of examples; return what it says of itself.

    Passes on:
        LeakError: the tables are others, or a rule is broken; names each, and some moments.
    """
    manifest = manifest_of(folder)
    if fingerprint_of(folder, manifest.tables) != manifest.fingerprint:
        _refuse(folder, [Leak(FINGERPRINT, 0, [])])
    check_tables(folder, manifest)
    return manifest


def check_tables(folder: Path, manifest: Manifest) -> None:
    """Check the tables of a folder whose fingerprint is right.

    Passes on:
        LeakError: a rule is broken; names each, and some moments.
    """
    found = leaks_of(folder, manifest)
    if found:
        _refuse(folder, found)


def leaks_of(folder: Path, manifest: Manifest) -> list[Leak]:
    """Return the rules that are broken."""
    states = _states_of(folder, manifest)
    broken: dict[str, list[int]] = {}
    counts: dict[str, int] = {}
    latest = -(1 << 60)  # before every time, and far from where differences overflow
    for one in _stretches(folder / manifest.tables[MOMENTS], manifest.encoding):
        at = one.times("at")
        late = np.diff(at, prepend=latest) < 0
        latest = int(at[-1])
        for rule, rows in ((ORDER, late), *((rule, look(one, states)) for rule, look in RULES)):
            places: list[int] = (np.flatnonzero(rows) + one.first).tolist()
            if places:
                counts[rule] = counts.get(rule, 0) + len(places)
                broken[rule] = (broken.get(rule, []) + places)[:NAMED_MAX]
    return [Leak(rule, counts[rule], rows) for rule, rows in broken.items()]


def _refuse(folder: Path, found: list[Leak]) -> NoReturn:
    """Refuse a folder.

    Raises:
        LeakError: always.
    """
    raise LeakError(
        f"the examples in {folder} know their own future: {'; '.join(map(str, found))}",
        field="DIR",
        value=str(folder),
        limit="nothing of a moment or later",
        next_step="export them again, and do not train on these",
    )


def _states_of(folder: Path, manifest: Manifest) -> States:
    posts, members = _table(folder, manifest, POSTS), _table(folder, manifest, MEMBERS)
    states = States(
        post=_ints(posts.column("post")),
        author=_ints(posts.column("author")),
        known_at=_ints(posts.column("known_at")),
        member=_ints(members.column("member")),
        member_known_at=_ints(members.column("known_at")),
        cut_at=int(manifest.cut_at.timestamp() * MICROSECONDS),
        label=int(manifest.label_hours * 3600 * MICROSECONDS),
        answers=Answers(np.empty(0, np.int64), np.empty(0, np.int64)),
    )
    return replace(states, answers=_answers_of(folder, manifest, states))


def _answers_of(folder: Path, manifest: Manifest, states: States) -> Answers:
    names: list[Ints] = [np.empty(0, np.int64)]
    rows: list[Ints] = [np.empty(0, np.int64)]
    for one in _stretches(folder / manifest.tables[MOMENTS], manifest.encoding):
        shown = one.lists("shown")
        engaged = one.lists("engaged").values.astype(np.bool_)
        names.append(states.names(one, shown)[engaged])
        rows.append(shown.rows[engaged] + one.first)
    found, row = np.concatenate(names), np.concatenate(rows)
    order = np.lexsort((row, found))
    found, row = found[order], row[order]
    last = np.append(found[1:] != found[:-1], True) if len(found) else np.empty(0, np.bool_)
    return Answers(found[last], row[last])


def _table(folder: Path, manifest: Manifest, name: str) -> Any:
    file = folder / manifest.tables[name]
    if manifest.encoding == "parquet":
        return import_module("pyarrow.parquet").read_table(file)
    arrow: Any = import_module("pyarrow")
    with arrow.memory_map(str(file)) as mapped:
        return arrow.ipc.open_file(mapped).read_all()


def _stretches(file: Path, encoding: str) -> Iterator[Stretch]:
    """Yield moments, some thousand at a time."""
    first = 0
    for batch in _batches(file, encoding):
        for start in range(0, batch.num_rows, ROWS):
            one = Stretch(batch.slice(start, ROWS), first + start)
            yield one
        first += batch.num_rows


def _batches(file: Path, encoding: str) -> Iterator[Any]:
    if encoding == "parquet":
        yield from import_module("pyarrow.parquet").ParquetFile(file).iter_batches(ROWS)
        return
    arrow: Any = import_module("pyarrow")
    with arrow.memory_map(str(file)) as mapped:
        reader = arrow.ipc.open_file(mapped)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def _ints(column: Any) -> Ints:
    """Return numbers or times as whole numbers."""
    arrow: Any = import_module("pyarrow")
    if arrow.types.is_timestamp(column.type):
        column = column.cast(arrow.int64())
    if isinstance(column, arrow.ChunkedArray):
        column = column.combine_chunks()
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)
