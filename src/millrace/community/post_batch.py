"""Post drafts: cleaned, given ids, written in one go."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millrace.community import validator
from millrace.community.counts import CounterMoves
from millrace.community.intake import (
    QUERIES,
    Intake,
    Line,
    fixed,
    home_of,
    ids_for,
    members_named,
)
from millrace.community.types import (
    EXTERNAL_ID_MAX,
    TEXT_MAX,
    TITLE_MAX,
    TOPICS_MAX,
    Audience,
    Key,
    NewPost,
    PostDraft,
    PostKind,
)
from millrace.store.session import Session, document


class CleanPost(Struct, frozen=True):
    """A post draft that passed its checks."""

    external_id: str
    author: str
    content: dict[str, object]
    created_at: datetime | None
    views: int


class KnownPost(Struct, frozen=True):
    """A post that is there already."""

    external_id: str
    post_id: int
    author_id: int
    created_at: datetime


class RaisedViews(Struct, frozen=True):
    """By how much an import raised the views of a post."""

    post_id: int
    by: int


class ChangedPost(Struct, frozen=True):
    """A post that an import changed."""

    post_id: int


def content(raw: NewPost | PostDraft) -> dict[str, object]:
    """Return what a post says, cleaned.

    Passes on:
        InvalidError: a value is wrong; names it.
    """
    return {
        "kind": validator.choice("kind", raw.kind, PostKind).value,
        "title": validator.line("title", raw.title, TITLE_MAX),
        "text": validator.body("text", raw.text, TEXT_MAX),
        "link": validator.link("link", raw.link),
        "topics": validator.words("topics", raw.topics, TOPICS_MAX),
        "language": validator.language("language", raw.language),
        "audience": validator.choice("audience", raw.audience, Audience).value,
    }


class PostBatch:
    """One batch of post drafts for one community."""

    def __init__(self, community_id: int, now: datetime) -> None:
        self.intake = Intake()
        self._community_id = community_id
        self._now = now

    def cleaned(self, drafts: Sequence[PostDraft]) -> list[Line[CleanPost]]:
        """Return the drafts that pass their own checks; the others are rejected."""
        lines = self.intake.cleaned(drafts, self._clean)
        return self.intake.distinct(lines, lambda clean: clean.external_id, "external_id")

    def _clean(self, draft: PostDraft) -> CleanPost:
        at = draft.created_at
        return CleanPost(
            validator.name("external_id", draft.external_id, EXTERNAL_ID_MAX),
            validator.name("author", draft.author, EXTERNAL_ID_MAX),
            content(draft),
            None if at is None else validator.moment("created_at", at, self._now),
            validator.number("views", draft.views, validator.COUNT_MAX),
        )

    async def write(self, session: Session, lines: list[Line[CleanPost]]) -> None:
        """Write the lines inside a bulk transaction.

        Passes on:
            NotFoundError: there is no such community.
        """
        await home_of(session, self._community_id)
        authors = await members_named(
            session, self._community_id, (line.clean.author for line in lines)
        )
        known = {
            one.external_id: one
            for one in await session.rows(
                QUERIES["known_posts"],
                KnownPost,
                community_id=self._community_id,
                names=[line.clean.external_id for line in lines],
            )
        }
        lines = [line for line in lines if self._agrees(line, authors, known)]
        moves = CounterMoves()
        await self._insert(
            session, [n for n in lines if n.clean.external_id not in known], authors, moves
        )
        await self._update(
            session, [n for n in lines if n.clean.external_id in known], known, moves
        )
        moves.apply(session)

    def _agrees(
        self, line: Line[CleanPost], authors: dict[str, Key], known: dict[str, KnownPost]
    ) -> bool:
        clean = line.clean
        author = authors.get(clean.author)
        if author is None:
            self.intake.reject(line.index, "author", f"there is no member {clean.author!r}")
            return False
        old = known.get(clean.external_id)
        if old is None:
            return True
        if old.author_id != author.id:
            self.intake.reject(line.index, "author", "a post keeps its author, and this is another")
            return False
        return fixed(self.intake, line.index, "created_at", clean.created_at, old.created_at)

    async def _insert(
        self,
        session: Session,
        lines: list[Line[CleanPost]],
        authors: dict[str, Key],
        moves: CounterMoves,
    ) -> None:
        dated = [(line.clean.created_at or self._now, line.clean.external_id) for line in lines]
        ids = await ids_for(session, QUERIES["posts_taken"], self._community_id, dated)
        rows: list[dict[str, object]] = []
        for line, identity, (created, _) in zip(lines, ids, dated, strict=True):
            clean, author = line.clean, authors[line.clean.author]
            rows.append(
                clean.content
                | {"post_id": identity, "external_id": clean.external_id, "author_id": author.id}
                | {"created_at": created, "views": clean.views}
            )
            self.intake.ids[clean.external_id] = identity
            moves.member(author, "posts", 1)
            moves.member(author, "views", clean.views)
        self.intake.created += await session.run(
            QUERIES["insert_posts"], community_id=self._community_id, rows=document(rows)
        )

    async def _update(
        self,
        session: Session,
        lines: list[Line[CleanPost]],
        known: dict[str, KnownPost],
        moves: CounterMoves,
    ) -> None:
        rows: list[dict[str, object]] = []
        authors: dict[int, Key] = {}
        for line in lines:
            old = known[line.clean.external_id]
            authors[old.post_id] = Key(self._community_id, old.author_id)
            rows.append(line.clean.content | {"post_id": old.post_id, "views": line.clean.views})
            self.intake.ids[line.clean.external_id] = old.post_id
        batch = {"community_id": self._community_id, "rows": document(rows)}
        changed = await session.rows(QUERIES["update_posts"], ChangedPost, **batch, now=self._now)
        raised = await session.rows(QUERIES["raise_views"], RaisedViews, **batch)
        for one in raised:
            moves.member(authors[one.post_id], "views", one.by)
        touched = {one.post_id for one in changed} | {one.post_id for one in raised}
        self.intake.updated += len(touched)
        self.intake.unchanged += len(rows) - len(touched)
