"""`millrace import dir`: a folder in the open format of docs/import-format.md."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from millrace.community.types import (
    CommentDraft,
    CommunityDraft,
    EngagementDraft,
    FollowDraft,
    ImpressionDraft,
    MemberDraft,
    PostDraft,
)
from millrace.kernel.errors import InvalidError
from millrace.world.importers.fields import FieldError
from millrace.world.importers.lines import SUFFIXES, Line, lines_of
from millrace.world.loader import CommunityRow, Loader, created_at_of, silent
from millrace.world.ports import Rooms, Watch
from millrace.world.rejects import Rejects
from millrace.world.types import (
    Draft,
    Event,
    ImportReport,
    Reject,
    Row,
)

KIND = "dir"
COMMUNITIES = "communities"
# In the order of reading: what is referred to comes first.
NOUNS: dict[str, type[Draft]] = {
    "members": MemberDraft,
    "posts": PostDraft,
    "comments": CommentDraft,
    "follows": FollowDraft,
    "impressions": ImpressionDraft,
    "engagements": EngagementDraft,
}
REQUIRED = ("members", "posts")
TIMES = frozenset({"created_at", "joined_at", "shown_at", "happened_at"})
BACK_MAX = timedelta(days=20_000)
FIELD = re.compile(r"field `([^`]+)`|`\$\.(\w+)")


class Anchors(Struct):
    """What the relative times of each community count back from.

    only: the community of rows that name none; empty where there are several.
    at: None where the community's own created_at is absolute, so that nothing is relative.
    """

    only: str
    at: dict[str, datetime | None]


async def import_dir(
    rooms: Rooms,
    folder: Path,
    *,
    rejects: Rejects,
    community: str = "",
    watch: Watch = silent,
) -> ImportReport:
    """Take a folder in the open format.

    Args:
        rooms: the program.
        folder: with members and posts at least.
        rejects: told of every row that is not taken.
        community: external id of the community of all rows, where there is no communities file.
        watch: told of progress.

    Returns:
        What became of every row. A folder that is no import at all is an InvalidError, before
        anything is written.
    """
    began = rooms.clock.monotonic()
    files, ignored = survey(folder)
    report = ImportReport(kind=KIND, folder=str(folder), ignored=ignored)
    loader = Loader(rooms, report, rejects, watch)
    anchors = await _communities(rooms, loader, files, community)
    for noun in NOUNS:
        if noun in files:
            await loader.take(rows_of(files[noun], noun, anchors))
    await loader.finish()
    report.seconds = rooms.clock.monotonic() - began
    return report


def survey(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the file of each noun, and the names of files that are no part of the format.

    Raises:
        InvalidError: it is no folder, a noun is there twice, or a required one is missing.
    """
    try:
        there = sorted(one for one in folder.iterdir() if one.is_file())
    except OSError as exc:
        raise InvalidError(
            f"{folder} cannot be read as a folder: {exc.strerror or exc}",
            field="DIR",
            value=str(folder),
            next_step="name a folder in the format of docs/import-format.md",
        ) from exc
    files: dict[str, Path] = {}
    ignored: list[str] = []
    for path in there:
        noun = next(
            (path.name.removesuffix(end) for end in SUFFIXES if path.name.endswith(end)), ""
        )
        if noun != COMMUNITIES and noun not in NOUNS:
            ignored.append(path.name)
        elif noun in files:
            raise InvalidError(
                f"{folder} has the {noun} twice: {files[noun].name} and {path.name}",
                field="DIR",
                next_step="keep one of the two files",
            )
        else:
            files[noun] = path
    missing = [noun for noun in REQUIRED if noun not in files]
    if missing:
        raise InvalidError(
            f"{folder} has no {' and no '.join(f'{one}.jsonl' for one in missing)}",
            field="DIR",
            value=str(folder),
            limit=f"{' and '.join(REQUIRED)}, each as one of {', '.join(SUFFIXES)}",
            next_step="see docs/import-format.md",
        )
    return files, ignored


async def _communities(rooms: Rooms, loader: Loader, files: dict[str, Path], name: str) -> Anchors:
    """Take the communities, and find what relative times count back from.

    Raises:
        InvalidError: none is named, or one is named twice.
    """
    if COMMUNITIES not in files:
        if not name:
            raise InvalidError(
                "there is no communities file, so the rows have no community",
                field="--community",
                next_step="add --community NAME, or a communities.jsonl",
            )
        return Anchors(name, {name: await loader.named(name)})
    if name:
        raise InvalidError(
            f"--community {name} is given, and {files[COMMUNITIES].name} says it too",
            field="--community",
            value=name,
            next_step="leave --community away, or take the file out of the folder",
        )
    now = rooms.clock.now().replace(microsecond=0)
    rows: list[CommunityRow] = []
    anchors: dict[str, datetime | None] = {}
    for event in lines_of(files[COMMUNITIES]):
        if not isinstance(event, Line):
            await loader.take([event])
            continue
        try:
            draft, anchor = await _community(rooms, event.fields, now)
        except FieldError as exc:
            await loader.take([_reject(event, exc)])
            continue
        rows.append(CommunityRow(event.place, draft, event.shown))
        anchors.setdefault(draft.external_id, anchor)
    await loader.communities(rows)
    return Anchors(next(iter(anchors)) if len(anchors) == 1 else "", anchors)


async def _community(
    rooms: Rooms, fields: dict[str, Any], now: datetime
) -> tuple[CommunityDraft, datetime | None]:
    """Return a community, and the anchor of its relative times.

    The anchor is the moment of the first import. It is kept as the community's own created_at,
    so that a later import of the same folder gives every row the same time again. What is no
    community is a FieldError that names the field.
    """
    made = fields.get("created_at", "-PT0S")
    offset = _offset("created_at", made)
    if offset is None:
        return _convert({**fields, "created_at": _aware(made)}, CommunityDraft), None
    draft = _convert({**fields, "created_at": now + offset}, CommunityDraft)
    known = await created_at_of(rooms, draft.external_id)
    if known is None:
        return draft, now
    return msgspec.structs.replace(draft, created_at=known), known - offset


def rows_of(path: Path, noun: str, anchors: Anchors) -> Iterator[Event]:
    """Yield what one file says, each row as a draft of its noun."""
    for event in lines_of(path):
        if not isinstance(event, Line):
            yield event
            continue
        try:
            yield _row(event, NOUNS[noun], anchors)
        except FieldError as exc:
            yield _reject(event, exc)


def _row(line: Line, draft: type[Draft], anchors: Anchors) -> Row:
    """Return one row as its draft.

    Raises:
        FieldError: a field cannot be what it should.
    """
    fields = dict(line.fields)
    community = fields.pop("community", anchors.only)
    if not isinstance(community, str):
        raise FieldError("community", "the community is an external id, in quotes")
    if not community:
        raise FieldError("community", "there are several communities, and the row names none")
    for name in TIMES & fields.keys():
        fields[name] = _moment(name, fields[name], anchors.at.get(community))
    return Row(line.place, community, (_convert(fields, draft),), line.shown)


def _moment(field: str, value: object, anchor: datetime | None) -> object:
    """Return a moment: as it stands, or counted back from the anchor where it is relative.

    Raises:
        FieldError: it is relative, and there is nothing that it counts back from.
    """
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    offset = _offset(field, value)
    if offset is None:
        return _aware(value)
    if anchor is None:
        raise FieldError(field, "a relative time needs a community with a relative created_at")
    return anchor + offset


def _aware(value: object) -> object:
    """Return a written moment with UTC where it names no offset."""
    if not isinstance(value, str):
        return value
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return value  # the conversion says what is wrong
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _offset(field: str, value: object) -> timedelta | None:
    """Return how long before the anchor, or None for a time that is not relative.

    Raises:
        FieldError: it looks relative and is not readable, or it lies too far back.
    """
    if not (isinstance(value, str) and value.startswith("-P")):
        return None
    try:
        found = msgspec.convert(value, timedelta)
    except msgspec.ValidationError as exc:
        raise FieldError(field, f"{value[:40]!r} is no relative time: {exc}") from exc
    if found < -BACK_MAX:
        raise FieldError(field, f"{value[:40]!r} lies more than {BACK_MAX.days} days back")
    return found


D = TypeVar("D", bound=Struct)


def _convert(fields: dict[str, Any], draft: type[D]) -> D:
    """Return the draft that the fields say.

    Raises:
        FieldError: one is missing, unknown or of another type; names it.
    """
    try:
        return msgspec.convert(fields, draft)
    except msgspec.ValidationError as exc:
        named = FIELD.search(str(exc))
        raise FieldError(named[1] or named[2] if named else "", str(exc)) from exc
    except (ValueError, OverflowError) as exc:  # a date that no calendar has
        raise FieldError("", str(exc)) from exc


def _reject(line: Line, fault: FieldError) -> Reject:
    return Reject(line.place.file, line.place.line, 0, fault.field, fault.reason, line.shown)
