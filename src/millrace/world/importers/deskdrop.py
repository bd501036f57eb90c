"""`millrace import deskdrop`: the log of a company's internal news feed as one community.

Source: "Articles sharing and reading from CI&T Deskdrop" (2016-03 to 2017-02). The files are
`users_interactions.csv` (or that in a .zip) and `shared_articles.csv` (or `articles_*.csv`). The
map of columns is in docs/import-format.md.
"""

import csv
import io
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from msgspec import Struct, field

from millrace.community.types import (
    TEXT_MAX,
    TITLE_MAX,
    Action,
    CommunityDraft,
    EngagementDraft,
    MemberDraft,
    PostDraft,
    PostKind,
)
from millrace.kernel.errors import InvalidError
from millrace.world.importers.fields import FieldError
from millrace.world.loader import Loader, silent
from millrace.world.ports import Rooms, Watch
from millrace.world.rejects import Rejects
from millrace.world.types import (
    ROW_BYTES_MAX,
    Broken,
    Draft,
    Event,
    ImportReport,
    Place,
    Reached,
    Reject,
    Row,
    Skip,
    shortened,
)

KIND = "deskdrop"
INTERACTIONS = ("users_interactions.csv", "users_interactions.csv.zip")
ARTICLES = "shared_articles.csv"
ARTICLES_SOME = "articles_*.csv"
NEEDED = {
    "interactions": ("timestamp", "eventType", "contentId", "personId"),
    "articles": ("timestamp", "contentId", "authorPersonId", "title", "text"),
}
LANGUAGE = "en"  # of an article that names none
ROWS_PER_WORD = 2_000
SECONDS_MAX = 1 << 33  # beyond the year 2200: a row of another unit or no time at all

SHARED, REMOVED = "CONTENT SHARED", "CONTENT REMOVED"
ACTIONS = {"VIEW": Action.CLICK, "LIKE": Action.LIKE, "COMMENT CREATED": Action.COMMENT}
NO_COUNTERPART = {
    "BOOKMARK": "a bookmark has no counterpart; that the article was opened is a VIEW of its own",
    "FOLLOW": "following one article's comments has no counterpart",
}
NO_TEXT = "its article is not in the folder, and a post needs a text"
TAKEN_BACK = "an article that was taken back"


class Found(Struct):
    """What a first reading tells: which articles have a text, and who ever touched one of them.

    people: person to the first moment and the place of that row.
    """

    articles: set[str] = field(default_factory=set[str])
    people: dict[str, tuple[datetime, str]] = field(default_factory=dict[str, tuple[datetime, str]])

    def met(self, person: str, at: datetime, place: str) -> None:
        """Note that a person was there."""
        before = self.people.get(person)
        if before is None:
            self.people[person] = (at, place)
        elif at < before[0] or not before[1]:
            self.people[person] = (min(at, before[0]), before[1] or place)


async def import_deskdrop(
    rooms: Rooms,
    folder: Path,
    *,
    rejects: Rejects,
    community: str = "",
    watch: Watch = silent,
) -> ImportReport:
    """Take the log: articles with a text as posts, and what people did with those.

    Args:
        rooms: the program.
        folder: with the two files.
        rejects: told of every row that is not taken.
        community: external id of the community; by default the folder's name.
        watch: told of progress.

    Returns:
        What became of every row. A folder that is no such log is an InvalidError, before anything
        is written.
    """
    began = rooms.clock.monotonic()
    articles, interactions, ignored = survey(folder)
    report = ImportReport(kind=KIND, folder=str(folder), ignored=ignored)
    loader = Loader(rooms, report, rejects, watch)
    name = community or _name_of(folder)
    found = _first_reading(articles, interactions)
    first = min((at for at, _ in found.people.values()), default=rooms.clock.now())
    await loader.named(
        name,
        CommunityDraft(
            external_id=name,
            name=name.replace("_", " "),
            description="Imported from a log of an internal news feed.",
            created_at=first.replace(microsecond=0),
        ),
    )
    await loader.take(_members(found, name, interactions.name))
    await loader.take(_rows(articles, lambda row: _post(row, name)))
    await loader.take(_rows(interactions, lambda row: _engagement(row, name, found)))
    await loader.finish()
    report.seconds = rooms.clock.monotonic() - began
    return report


def _name_of(folder: Path) -> str:
    return folder.absolute().name


def survey(folder: Path) -> tuple[Path, Path, list[str]]:
    """Return the file of articles, that of interactions, and the names of the others.

    Raises:
        InvalidError: one of them is missing, cannot be read, or lacks a column.
    """
    try:
        there = {one.name: one for one in sorted(folder.iterdir()) if one.is_file()}
    except OSError as exc:
        raise InvalidError(
            f"{folder} cannot be read as a folder: {exc.strerror or exc}",
            field="DIR",
            value=str(folder),
            next_step="name the folder that holds the two files",
        ) from exc
    some = [path for name, path in there.items() if Path(name).match(ARTICLES_SOME)]
    articles = there.get(ARTICLES) or next(iter(some), None)
    interactions = next((there[name] for name in INTERACTIONS if name in there), None)
    if articles is None or interactions is None:
        missing = [
            text
            for text, path in (
                (f"{ARTICLES} or {ARTICLES_SOME}", articles),
                (" or ".join(INTERACTIONS), interactions),
            )
            if path is None
        ]
        raise InvalidError(
            f"{folder} has no {' and no '.join(missing)}",
            field="DIR",
            value=str(folder),
            limit="both files",
            next_step="name the folder that holds the two files",
        )
    for path, noun in ((articles, "articles"), (interactions, "interactions")):
        _expect_columns(path, noun)
    return (
        articles,
        interactions,
        [name for name in there if there[name] not in (articles, interactions)],
    )


def _expect_columns(path: Path, noun: str) -> None:
    """Read the header.

    Raises:
        InvalidError: it cannot be read, or a column is missing.
    """
    try:
        with _opened(path) as text:
            header = next(csv.reader(text), list[str]())
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError, csv.Error) as exc:
        raise InvalidError(
            f"{path} cannot be read: {exc}",
            field=path.name,
            next_step="download the file again; nothing was imported",
        ) from exc
    missing = [name for name in NEEDED[noun] if name not in header]
    if missing:
        raise InvalidError(
            f"{path} has no column {', '.join(missing)}",
            field=path.name,
            limit=", ".join(NEEDED[noun]),
            next_step="is it the right file? Nothing was imported",
        )


@contextmanager
def _opened(path: Path) -> Generator[TextIO]:
    """Open a table; that in a zip is the first file of it, unpacked as it is read.

    Raises:
        InvalidError: the zip holds no table.
    """
    if path.suffix != ".zip":
        with path.open(encoding="utf-8", newline="") as text:
            yield text
        return
    with zipfile.ZipFile(path) as packed:
        inside = next((name for name in packed.namelist() if name.endswith(".csv")), None)
        if inside is None:
            raise InvalidError(
                f"{path} holds no .csv",
                field=path.name,
                next_step="download the file again; nothing was imported",
            )
        with packed.open(inside) as raw:
            yield io.TextIOWrapper(raw, encoding="utf-8", newline="")


class TableRow(Struct, frozen=True):
    """One row of a table."""

    place: Place
    values: dict[str, str]
    shown: str

    def needed(self, name: str) -> str:
        """Return a value that must be there.

        Raises:
            FieldError: it is empty.
        """
        value = self.values.get(name, "").strip()
        if not value:
            raise FieldError(name, f"there is no {name}")
        return value

    def moment(self) -> datetime:
        """Return the time, which is given in seconds since 1970.

        Raises:
            FieldError: it is no such number.
        """
        text = self.needed("timestamp")
        if not (text.isascii() and text.isdigit()) or int(text) > SECONDS_MAX:
            raise FieldError("timestamp", f"{text[:40]!r} is no count of seconds since 1970")
        return datetime.fromtimestamp(int(text), UTC)


def table(path: Path) -> Iterator[TableRow | Broken | Reached]:
    """Yield the rows of a table; a row counts its place in the file, whatever lines it spans."""
    csv.field_size_limit(ROW_BYTES_MAX)  # of the whole process; the default is 128 KiB
    at = 0
    try:
        with _opened(path) as text:
            lines = csv.reader(text)
            header = next(lines, list[str]())
            for values in lines:
                at += 1
                yield TableRow(
                    Place(path.name, at),
                    dict(zip(header, values, strict=False)),
                    shortened(",".join(values)),
                )
                if at % ROWS_PER_WORD == 0:
                    yield Reached(path.name, at, 0)
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError, csv.Error, EOFError) as exc:
        reason = str(exc).split("\n", 1)[0][:300]
        yield Broken(path.name, f"after row {at}: it cannot be read any further: {reason}")
    yield Reached(path.name, at, at)


def _first_reading(articles: Path, interactions: Path) -> Found:
    """Find the articles with a text, and everybody who shared or touched one. Nothing is refused."""
    found = Found()
    for row in table(articles):
        if isinstance(row, TableRow) and _is_shared(row):
            try:
                at, author = row.moment(), row.needed("authorPersonId")
                row.needed("text")
            except FieldError:
                continue
            found.articles.add(row.values["contentId"])
            found.met(author, at, _place_of(row, "author"))
    for row in table(interactions):
        if isinstance(row, TableRow) and row.values.get("contentId") in found.articles:
            try:
                found.met(row.needed("personId"), row.moment(), _place_of(row, "user"))
            except FieldError:
                continue
    return found


def _is_shared(row: TableRow) -> bool:
    return row.values.get("eventType", SHARED) == SHARED


def _place_of(row: TableRow, who: str) -> str:
    parts = (row.values.get(f"{who}Region", ""), row.values.get(f"{who}Country", ""))
    return ", ".join(part for part in parts if part)[:100]


def _members(found: Found, community: str, file: str) -> Iterator[Event]:
    """Yield everybody as a member. The log knows numbers instead of names, and no profiles."""
    ordered = sorted(found.people.items(), key=lambda one: (one[1][0], one[0]))
    for at, (person, (joined_at, place)) in enumerate(ordered, 1):
        draft = MemberDraft(
            external_id=person,
            display_name=f"Colleague {at}",
            place=place,
            joined_at=joined_at,
        )
        yield Row(Place(f"people of {file}", at), community, (draft,), person)


def _rows(path: Path, told: Callable[[TableRow], Row | Skip]) -> Iterator[Event]:
    for row in table(path):
        if not isinstance(row, TableRow):
            yield row
            continue
        try:
            yield told(row)
        except FieldError as exc:
            place = row.place
            yield Reject(place.file, place.line, 0, exc.field, exc.reason, row.shown)


def _post(row: TableRow, community: str) -> Row | Skip:
    if not _is_shared(row):
        return Skip(row.place, TAKEN_BACK)
    draft = PostDraft(
        external_id=row.needed("contentId"),
        author=row.needed("authorPersonId"),
        kind=PostKind.LINK,
        title=row.values.get("title", "").strip()[:TITLE_MAX],
        text=row.needed("text")[:TEXT_MAX],
        link=row.values.get("url", "").strip(),
        language=row.values.get("lang", "") or LANGUAGE,
        created_at=row.moment(),
    )
    return _row(row, community, draft)


def _engagement(row: TableRow, community: str, found: Found) -> Row | Skip:
    event = row.needed("eventType")
    if row.needed("contentId") not in found.articles:
        return Skip(row.place, NO_TEXT)
    if event in NO_COUNTERPART:
        return Skip(row.place, NO_COUNTERPART[event])
    if event not in ACTIONS:
        raise FieldError("eventType", f"event {event[:40]!r} is unknown")
    draft = EngagementDraft(
        member=row.needed("personId"),
        post=row.needed("contentId"),
        kind=ACTIONS[event],
        happened_at=row.moment(),
        surface="import",
    )
    return _row(row, community, draft)


def _row(row: TableRow, community: str, draft: Draft) -> Row:
    return Row(row.place, community, (draft,), row.shown)
