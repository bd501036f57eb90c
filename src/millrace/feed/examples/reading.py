"""A folder of examples, mapped into memory and checked before anybody trains on it.

What is checked here needs one look at each file: that it is the files that were written, in their
shape and their order, and that no moment knows its own future. `leaks.py` looks deeper.
"""

from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, cast

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from millrace.feed.examples.ragged import Ragged, Rows
from millrace.feed.examples.types import FORMAT, MANIFEST, TABLES, UNKNOWN, Manifest, schemas
from millrace.feed.examples.writing import fingerprint_of
from millrace.feed.prompts.types import MemberFacts, PostFacts
from millrace.feed.prompts.v2 import PERCENTILES
from millrace.kernel.errors import InvalidError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
arrow: Any = import_module("pyarrow")  # it tells no types
PROFILE = ("display_name", "headline", "about", "skills", "place", "languages")
ALWAYS = np.iinfo(np.int64).max  # later than every time


class Examples:
    """Moments at which a feed was served, with the states of posts and members they refer to.

    Times are microseconds since 1970. A state is the row of a table, and lists of moments hold
    states of posts; `post_of` and `member_of` say whose a state is.
    """

    def __init__(self, folder: Path) -> None:
        """Map a folder and check it: one that is not whole is an InvalidError."""
        self.folder = folder
        self.manifest = _manifest(folder)
        tables = {
            name: _mapped(folder / self.manifest.tables[name], schema)
            for name, schema in schemas().items()
        }
        self._wordings, self._posts, self._members, moments = (tables[name] for name in TABLES)
        self.wording = _whole(self._posts["wording"])
        self.post_of = _whole(self._posts["post"])
        self.post_community = _whole(self._posts["community_id"])
        self.post_author = _whole(self._posts["author"])
        self.post_known_at = _times(self._posts["known_at"])
        self.member_of = _whole(self._members["member"])
        self.member_community = _whole(self._members["community_id"])
        self.at = _times(moments["at"])
        self.known_until = _times(moments["known_until"])
        self.labelled_until = _times(moments["labelled_until"])
        self.member_state = _whole(moments["member_state"])
        self.positives, self.past, self.past_engaged, self.shown, self.engaged = (
            Ragged(moments[name])
            for name in ("positives", "past", "past_engaged", "shown", "engaged")
        )
        self._positives_at = Ragged(moments["positives_at"])
        _check(self)

    def positives_at(self, moment: int) -> Rows:
        """Return when a member had engaged with each of the posts of `positives`."""
        return self._positives_at[moment].astype("datetime64[us]").astype(np.int64)

    @property
    def fingerprint(self) -> str:
        """Return the name of the data: the same examples have the same one."""
        return self.manifest.fingerprint

    @property
    def posts(self) -> int:
        """Return how many posts there are, whatever they have been through."""
        return int(self.post_of.max()) + 1 if len(self.post_of) else 0

    @property
    def wordings(self) -> int:
        """Return how many wordings there are: texts of posts, whatever their numbers."""
        return int(self._wordings.num_rows)

    @property
    def moments(self) -> int:
        """Return how many moments there are."""
        return len(self.at)

    def said(self, state: int) -> PostFacts:
        """Return what a post says in a state, without its numbers; what a history is made of."""
        row = _row(self._wordings, int(self.wording[state]))
        del row["post"]
        return PostFacts(**row, created_at=EPOCH)

    def post_facts(self, state: int) -> PostFacts:
        """Return what a prompt says of a post in a state."""
        numbers = cast(list[int], self._posts["percentiles"][state].as_py())
        known = (None if number == UNKNOWN else number for number in numbers)
        return replace(self.said(state), **dict(zip(PERCENTILES, known, strict=True)))

    def post_numbers(self, state: int) -> dict[str, int]:
        """Return the numbers of a state as they were, by the markers of their percentiles."""
        numbers = cast(list[int], self._posts["numbers"][state].as_py())
        named = zip(PERCENTILES, numbers, strict=True)
        return {name: number for name, number in named if number != UNKNOWN}

    def member_facts(self, state: int, history: list[PostFacts]) -> MemberFacts:
        """Return what a prompt says of a member in a state, with these posts as the history."""
        row = _row(self._members, state)
        said = {name: row[name] for name in PROFILE}
        return MemberFacts(**said, history=history)

    def whole(self) -> "Part":
        """Return all moments."""
        return Part(self, 0, self.moments, ALWAYS)

    def split(self, at: datetime) -> tuple["Part", "Part"]:
        """Return the moments before a time and those from it on: one time for everybody."""
        return self.whole().split(at)


class Part(Struct, frozen=True):
    """A stretch of time of a folder: moments `first` to `last - 1`.

    until: moments whose answers were complete later than this are left out, so that nothing is
        learned from what happened behind a split.
    """

    examples: Examples
    first: int
    last: int
    until: int

    @property
    def rows(self) -> Rows:
        """Return the moments: rows of the folder."""
        complete = self.examples.labelled_until[self.first : self.last] <= self.until
        return np.flatnonzero(complete) + self.first

    def split(self, at: datetime) -> tuple["Part", "Part"]:
        """Return the moments of this part that were over before a time, and those from it on."""
        micros = (at - EPOCH) // MICROSECOND
        place = int(np.searchsorted(self.examples.at, micros, side="left"))
        place = min(max(place, self.first), self.last)
        before = Part(self.examples, self.first, place, min(self.until, micros))
        return before, Part(self.examples, place, self.last, self.until)

    def time_at(self, share: float) -> datetime:
        """Return when so large a share of the moments was over, 0 for the first.

        Raises:
            InvalidError: there is no moment.
        """
        if self.first == self.last:
            raise InvalidError(
                f"the examples in {self.examples.folder} have no moments in this part",
                field="examples",
                value=str(self.examples.folder),
                limit="1 moment",
                next_step="export examples of a longer time",
            )
        place = min(int(share * (self.last - self.first)), self.last - self.first - 1)
        return EPOCH + int(self.examples.at[self.first + place]) * MICROSECOND


def _manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder whose files are those that it was written for."""
    path = folder / MANIFEST
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if found.get("format") != FORMAT:
            _refuse(folder, f"its format is {found.get('format')!r}, this program reads {FORMAT}")
        manifest = msgspec.convert(found, Manifest, strict=False)
    except OSError as error:
        _refuse(folder, f"it has no readable {MANIFEST}: {error.strerror}", error)
    except msgspec.MsgspecError as error:
        _refuse(folder, f"its {MANIFEST} is broken: {error}", error)
    if manifest.encoding != "arrow":
        _refuse(folder, f"it is written as {manifest.encoding}, which cannot be mapped")
    for name in TABLES:
        if name not in manifest.tables or not (folder / manifest.tables[name]).is_file():
            _refuse(folder, f"it has no table of {name}")
    actual = fingerprint_of(folder, manifest.tables)
    if manifest.fingerprint != actual:
        wanted = manifest.fingerprint
        _refuse(folder, f"its files are {actual}, and its {MANIFEST} is of {wanted}")
    return manifest


def _mapped(path: Path, schema: Any) -> Any:
    """Return a file as a table whose columns lie in the file."""
    try:
        with arrow.memory_map(str(path)) as source:
            table: Any = arrow.ipc.open_file(source).read_all()
    except (arrow.ArrowException, OSError) as error:
        first = (str(error).splitlines() or [""])[0]
        _refuse(path.parent, f"{path.name} is no whole Arrow file: {first}", error)
    for field in schema:
        found = table.schema.field(field.name).type if field.name in table.column_names else None
        if found != field.type:
            what = "is missing" if found is None else f"is {found}"
            _refuse(path.parent, f"column {field.name} of {path.name} {what}, not {field.type}")
        nulls = table[field.name].null_count + _nulls_within(table[field.name])
        if nulls and not field.nullable:
            _refuse(path.parent, f"column {field.name} of {path.name} has {nulls} empty places")
    return table


def _nulls_within(column: Any) -> int:
    """Return how many places in the lists of a column are empty."""
    return sum(chunk.values.null_count for chunk in column.chunks if hasattr(chunk, "values"))


def _check(examples: Examples) -> None:
    """Refuse moments that are out of order, out of shape, or know too much."""
    folder, at = examples.folder, examples.at
    for place in np.flatnonzero(np.diff(at) < 0)[:1].tolist():
        _refuse(folder, f"moment {place + 1} is earlier than the one before it")
    for place in np.flatnonzero(examples.known_until >= at)[:1].tolist():
        late = int(examples.known_until[place] - at[place])
        _refuse(folder, f"moment {place} knows what came {late} us after it or with it")
    _check_rows(folder, "wording", examples.wording, examples.wordings)
    _check_rows(folder, "member_state", examples.member_state, len(examples.member_of))
    for name in ("positives", "past", "shown"):
        ragged: Ragged = getattr(examples, name)
        for _, values in ragged.stretches(0, examples.moments):
            _check_rows(folder, name, values, len(examples.post_of))
    pairs = (("positives", "_positives_at"), ("past", "past_engaged"), ("shown", "engaged"))
    for name, other in pairs:
        one, two = getattr(examples, name).lengths, getattr(examples, other).lengths
        for place in np.flatnonzero(one != two)[:1].tolist():
            counts = f"{one[place]} rows of {name} and {two[place]} of {other.lstrip('_')}"
            _refuse(folder, f"moment {place} has {counts}")


def _check_rows(folder: Path, name: str, rows: NDArray[Any], count: int) -> None:
    """Refuse a reference to a row that is not there."""
    if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= count):
        wrong = int(rows.min()) if int(rows.min()) < 0 else int(rows.max())
        _refuse(folder, f"{name} names row {wrong}, and there are {count}")


def _whole(column: Any) -> Rows:
    """Return a column of numbers."""
    return column.to_numpy().astype(np.int64)


def _times(column: Any) -> Rows:
    """Return a column of times in microseconds since 1970."""
    return column.cast(arrow.int64()).to_numpy()


def _row(table: Any, place: int) -> dict[str, Any]:
    """Return one row by the names of its columns."""
    return table.slice(place, 1).to_pylist()[0]


def _refuse(folder: Path, reason: str, cause: Exception | None = None) -> NoReturn:
    """Say that a folder cannot be read, and why.

    Raises:
        InvalidError: always.
    """
    raise InvalidError(
        f"the examples in {folder} cannot be used: {reason}",
        field="examples",
        value=str(folder),
        limit=FORMAT,
        next_step="export them again with millrace train export",
    ) from cause
