"""`millrace import stackexchange`: a Stack Exchange data dump as one community.

Source: https://archive.org/details/stackexchange, CC BY-SA; names and about texts are personal
data. The map of columns is in docs/import-format.md.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct, field

from millrace.community.types import (
    Action,
    CommentDraft,
    CommunityDraft,
    EngagementDraft,
    MemberDraft,
    PostDraft,
    PostKind,
)
from millrace.kernel.errors import InvalidError
from millrace.world.importers.fields import FieldError
from millrace.world.importers.plain import first_sentence, plain_text
from millrace.world.importers.xmlrows import XmlRow, refusal, xml_rows
from millrace.world.loader import Loader, silent
from millrace.world.ports import Rooms, Watch
from millrace.world.rejects import Rejects
from millrace.world.types import Draft, Event, ImportReport, Reject, Row, Skip

KIND = "stackexchange"
ROOTS = {"Users": "users", "Posts": "posts", "Comments": "comments", "Votes": "votes"}
REQUIRED = ("Users", "Posts")

QUESTION, ANSWER = "1", "2"
POST_TYPES = {
    "3": "an orphaned tag wiki is no post of a member",
    "4": "a tag wiki excerpt is no post of a member",
    "5": "a tag wiki is no post of a member",
    "6": "a moderator nomination is no post of the community",
    "7": "a wiki placeholder is no post of a member",
    "8": "a privilege wiki is no post of a member",
}
FAVOURITE = "5"
SITE_ITSELF = "-1"

NO_PERSON = "the site's own background account is no person"
NO_VOTER = "a vote without a member has no home: it is neither a view nor somebody's like"
OTHER_VOTE = "a vote of this kind says nothing about a member's taste"


class Threads(Struct):
    """Which thread a row belongs to: about 200 bytes a post, for the length of the import."""

    asked_at: dict[str, datetime] = field(default_factory=dict[str, datetime])
    answers: dict[str, str] = field(default_factory=dict[str, str])

    def of(self, post: str) -> tuple[str, str]:
        """Return the question of a post and the comment that it is itself, if it is an answer.

        Raises:
            FieldError: the dump has no such post.
        """
        if post in self.asked_at:
            return post, ""
        if self.answers.get(post) in self.asked_at:
            return self.answers[post], answer_id(post)
        raise FieldError("PostId", f"post {post!r} is no question or answer that was read")


def answer_id(number: str) -> str:
    """Return the external id of an answer; answers and comments number themselves apart."""
    return f"answer-{number}"


def comment_id(number: str) -> str:
    """Return the external id of a comment."""
    return f"comment-{number}"


async def import_stackexchange(
    rooms: Rooms,
    folder: Path,
    *,
    rejects: Rejects,
    community: str = "",
    watch: Watch = silent,
) -> ImportReport:
    """Take a dump: Users.xml and Posts.xml, and Comments.xml and Votes.xml where they are.

    Args:
        rooms: the program.
        folder: the unpacked dump.
        rejects: told of every row that is not taken.
        community: external id of the community; by default the folder's name.
        watch: told of progress.

    Returns:
        What became of every row. A folder that is no dump is an InvalidError, before anything is
        written.
    """
    began = rooms.clock.monotonic()
    files, ignored = survey(folder)
    report = ImportReport(kind=KIND, folder=str(folder), ignored=ignored)
    loader = Loader(rooms, report, rejects, watch)
    name = community or _name_of(folder)
    draft = CommunityDraft(
        external_id=name,
        name=name.replace("_", " "),
        description="Imported from a Stack Exchange data dump.",
        created_at=_first_date(files["Users"]) or rooms.clock.now().replace(microsecond=0),
    )
    await loader.named(name, draft)
    threads = Threads()
    readers = {
        "Users": members(files["Users"], name),
        "Posts": posts(files["Posts"], name, threads),
        "Comments": comments(files["Comments"], name, threads) if "Comments" in files else (),
        "Votes": votes(files["Votes"], name, threads) if "Votes" in files else (),
    }
    for events in readers.values():
        await loader.take(events)
    await loader.finish()
    report.seconds = rooms.clock.monotonic() - began
    return report


def survey(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the files that are read, and the names of those that are not.

    Raises:
        InvalidError: a required file is missing, or one that is there is no dump file.
    """
    try:
        there = {one.name: one for one in sorted(folder.iterdir()) if one.is_file()}
    except OSError as exc:
        raise InvalidError(
            f"{folder} cannot be read as a folder: {exc.strerror or exc}",
            field="DIR",
            value=str(folder),
            next_step="unpack the dump and name its folder",
        ) from exc
    files = {noun: there[f"{noun}.xml"] for noun in ROOTS if f"{noun}.xml" in there}
    missing = [f"{noun}.xml" for noun in REQUIRED if noun not in files]
    if missing:
        raise InvalidError(
            f"{folder} has no {' and no '.join(missing)}",
            field="DIR",
            value=str(folder),
            limit="Users.xml and Posts.xml; Comments.xml and Votes.xml if you have them",
            next_step="unpack the dump and name its folder",
        )
    for noun, path in files.items():
        reason = refusal(path, ROOTS[noun])
        if reason:
            raise InvalidError(
                f"{path} is no {noun}.xml of a dump: {reason}",
                field=path.name,
                next_step="download the dump again; nothing was imported",
            )
    return files, [name for name in there if there[name] not in files.values()]


def _name_of(folder: Path) -> str:
    return folder.absolute().name


def _first_date(path: Path) -> datetime | None:
    """Return when the first account was made: the community is as old as that."""
    for event in xml_rows(path, ROOTS["Users"]):
        if isinstance(event, XmlRow):
            try:
                return _moment(event, "CreationDate")
            except FieldError:
                return None
    return None


# ------------------------------------------------- one reader per file


def members(path: Path, community: str) -> Iterator[Event]:
    """Yield every account as a member."""
    for event in xml_rows(path, ROOTS["Users"]):
        if not isinstance(event, XmlRow):
            yield event
        elif event.values.get("Id") == SITE_ITSELF:
            yield Skip(event.place, NO_PERSON)
        else:
            yield _told(event, community, _member)


def _member(row: XmlRow) -> tuple[MemberDraft]:
    about = plain_text(row.values.get("AboutMe", ""))
    return (
        MemberDraft(
            external_id=_needed(row, "Id"),
            display_name=_needed(row, "DisplayName"),
            headline=first_sentence(about),
            about=about,
            place=row.values.get("Location", ""),
            languages=["en"],
            joined_at=_moment(row, "CreationDate"),
        ),
    )


def posts(path: Path, community: str, threads: Threads) -> Iterator[Event]:
    """Yield questions as posts, and answers as comments at the top of their threads.

    An answer that stands before its question (the site merged two) waits to the end of the file.
    """
    early: list[XmlRow] = []
    for event in xml_rows(path, ROOTS["Posts"]):
        if not isinstance(event, XmlRow):
            yield event
            continue
        kind = event.values.get("PostTypeId", "")
        if kind == QUESTION:
            yield _told(event, community, lambda row: _question(row, threads))
        elif kind == ANSWER and event.values.get("ParentId") not in threads.asked_at:
            early.append(event)
        elif kind == ANSWER:
            yield _told(event, community, lambda row: _answer(row, threads))
        elif kind in POST_TYPES:
            yield Skip(event.place, POST_TYPES[kind])
        else:
            yield _refused(event, "PostTypeId", f"post type {kind[:20]!r} is unknown")
    for row in early:
        yield _told(row, community, lambda late: _answer(late, threads))


def _question(row: XmlRow, threads: Threads) -> tuple[PostDraft]:
    number, owner, asked_at = _needed(row, "Id"), _owner(row), _moment(row, "CreationDate")
    threads.asked_at.setdefault(number, asked_at)
    title = row.values.get("Title", "")
    return (
        PostDraft(
            external_id=number,
            author=owner,
            kind=PostKind.QUESTION,
            title=title,
            text=plain_text(row.values.get("Body", "")) or title,
            topics=topics(row.values.get("Tags", "")),
            language="en",
            created_at=asked_at,
            views=_count(row, "ViewCount"),
        ),
    )


def _answer(row: XmlRow, threads: Threads) -> tuple[CommentDraft]:
    number, question = _needed(row, "Id"), _needed(row, "ParentId")
    if question not in threads.asked_at:
        raise FieldError("ParentId", f"question {question!r} was not read")
    threads.answers.setdefault(number, question)
    return (
        CommentDraft(
            external_id=answer_id(number),
            author=_owner(row),
            post=question,
            text=plain_text(row.values.get("Body", "")),
            created_at=_moment(row, "CreationDate"),
        ),
    )


def comments(path: Path, community: str, threads: Threads) -> Iterator[Event]:
    """Yield comments on a question, and on an answer as replies to it.

    That a member engaged by writing is recorded by the community with the comment itself.
    """
    for event in xml_rows(path, ROOTS["Comments"]):
        if isinstance(event, XmlRow):
            yield _told(event, community, lambda row: _comment(row, threads))
        else:
            yield event


def _comment(row: XmlRow, threads: Threads) -> tuple[CommentDraft]:
    question, parent = threads.of(_needed(row, "PostId"))
    return (
        CommentDraft(
            external_id=comment_id(_needed(row, "Id")),
            author=_owner(row, "UserId", "UserDisplayName"),
            post=question,
            parent=parent,
            text=row.values.get("Text", ""),
            created_at=_moment(row, "CreationDate"),
        ),
    )


def votes(path: Path, community: str, threads: Threads) -> Iterator[Event]:
    """Yield favourites with a member as likes; other votes have no home."""
    for event in xml_rows(path, ROOTS["Votes"]):
        if not isinstance(event, XmlRow):
            yield event
        elif event.values.get("VoteTypeId") != FAVOURITE:
            yield Skip(event.place, OTHER_VOTE if "UserId" in event.values else NO_VOTER)
        elif "UserId" not in event.values:
            yield Skip(event.place, NO_VOTER)
        else:
            yield _told(event, community, lambda row: _favourite(row, threads))


def _favourite(row: XmlRow, threads: Threads) -> tuple[EngagementDraft]:
    question, _ = threads.of(_needed(row, "PostId"))
    # The dump keeps only the day of a vote, which may begin before the question was asked.
    voted_at = max(_moment(row, "CreationDate"), threads.asked_at[question])
    return (
        EngagementDraft(
            member=row.values["UserId"],
            post=question,
            kind=Action.LIKE,
            happened_at=voted_at,
            surface="import",
        ),
    )


# ------------------------------------------------- columns


def _told(
    row: XmlRow, community: str, drafts: Callable[[XmlRow], tuple[Draft, ...]]
) -> Row | Reject:
    try:
        return Row(row.place, community, drafts(row), row.shown)
    except FieldError as exc:
        return _refused(row, exc.field, exc.reason)


def _refused(row: XmlRow, name: str, reason: str) -> Reject:
    return Reject(row.place.file, row.place.line, 0, name, reason, row.shown)


def _needed(row: XmlRow, name: str) -> str:
    value = row.values.get(name, "").strip()
    if not value:
        raise FieldError(name, f"there is no {name}")
    return value


def _owner(row: XmlRow, name: str = "OwnerUserId", shown: str = "OwnerDisplayName") -> str:
    """Return who wrote it.

    Raises:
        FieldError: the account is gone, or it is the site itself.
    """
    owner = row.values.get(name, "")
    if owner == SITE_ITSELF:
        raise FieldError(name, NO_PERSON)
    if not owner:
        former = row.values.get(shown, "")
        who = f" of {former[:60]!r}" if former else ""
        raise FieldError(name, f"the account{who} that wrote this is deleted")
    return owner


def _moment(row: XmlRow, name: str) -> datetime:
    text = _needed(row, name)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise FieldError(name, f"{text[:40]!r} is no date") from exc
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _count(row: XmlRow, name: str) -> int:
    text = row.values.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise FieldError(name, f"{text[:40]!r} is no count")
    return int(text)


def topics(text: str) -> list[str]:
    """Return the tags of a question, written `<a><b>` in older dumps and `|a|b|` in newer ones."""
    parts = text.replace("><", "|").replace("<", "|").replace(">", "|").split("|")
    return [part for part in parts if part]
