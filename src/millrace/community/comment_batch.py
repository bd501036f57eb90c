"""Comment drafts: cleaned, given ids and parents, written in one go."""

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
    posts_named,
)
from millrace.community.logs import logged
from millrace.community.types import (
    COMMENT_MAX,
    EXTERNAL_ID_MAX,
    Action,
    CommentDraft,
    Engagement,
    Key,
)
from millrace.store.session import Session, document


class CleanComment(Struct, frozen=True):
    """A comment draft that passed its checks; an empty parent means the post itself."""

    external_id: str
    author: str
    post: str
    parent: str
    text: str
    created_at: datetime | None


class KnownComment(Struct, frozen=True):
    """A comment that is there already."""

    external_id: str
    comment_id: int
    author_id: int
    post_community_id: int
    post_id: int
    parent_id: int | None
    created_at: datetime


class Placed(Struct, frozen=True):
    """What the names of a draft stand for."""

    author: Key
    post: Key


class CommentBatch:
    """One batch of comment drafts for one community: authors, posts and parents live there."""

    def __init__(self, community_id: int, now: datetime) -> None:
        self.intake = Intake()
        self._community_id = community_id
        self._now = now

    def cleaned(self, drafts: Sequence[CommentDraft]) -> list[Line[CleanComment]]:
        """Return the drafts that pass their own checks; the others are rejected."""
        lines = self.intake.cleaned(drafts, self._clean)
        return self.intake.distinct(lines, lambda clean: clean.external_id, "external_id")

    def _clean(self, draft: CommentDraft) -> CleanComment:
        at = draft.created_at
        return CleanComment(
            validator.name("external_id", draft.external_id, EXTERNAL_ID_MAX),
            validator.name("author", draft.author, EXTERNAL_ID_MAX),
            validator.name("post", draft.post, EXTERNAL_ID_MAX),
            validator.line("parent", draft.parent, EXTERNAL_ID_MAX),
            validator.body("text", draft.text, COMMENT_MAX),
            None if at is None else validator.moment("created_at", at, self._now),
        )

    async def write(self, session: Session, lines: list[Line[CleanComment]]) -> None:
        """Write the lines inside a bulk transaction.

        Passes on:
            NotFoundError: there is no such community.
        """
        await home_of(session, self._community_id)
        places = await self._places(session, lines)
        known = await self._known(session, lines)
        lines = [line for line in lines if line.index in places]
        lines = [
            line
            for line in lines
            if self._agrees(line, places[line.index], known.get(line.clean.external_id))
        ]
        new = [line for line in lines if line.clean.external_id not in known]
        lines, new = self._with_parents(lines, new, places, known)
        await self._insert(session, new, places, known)
        await self._update(session, [n for n in lines if n.clean.external_id in known], known)

    async def _places(self, session: Session, lines: list[Line[CleanComment]]) -> dict[int, Placed]:
        home = self._community_id
        authors = await members_named(session, home, (line.clean.author for line in lines))
        posts = await posts_named(session, home, (line.clean.post for line in lines))
        places: dict[int, Placed] = {}
        for line in lines:
            author, post = authors.get(line.clean.author), posts.get(line.clean.post)
            if author is None:
                reason = f"there is no member {line.clean.author!r}"
                self.intake.reject(line.index, "author", reason)
            elif post is None:
                self.intake.reject(line.index, "post", f"there is no post {line.clean.post!r}")
            else:
                places[line.index] = Placed(author, post)
        return places

    async def _known(
        self, session: Session, lines: list[Line[CleanComment]]
    ) -> dict[str, KnownComment]:
        names = {line.clean.external_id for line in lines} | {line.clean.parent for line in lines}
        found = await session.rows(
            QUERIES["known_comments"],
            KnownComment,
            community_id=self._community_id,
            names=sorted(names),
        )
        return {one.external_id: one for one in found}

    def _agrees(self, line: Line[CleanComment], place: Placed, known: KnownComment | None) -> bool:
        if known is None:
            return True
        if known.author_id != place.author.id:
            self.intake.reject(line.index, "author", "a comment keeps its author")
            return False
        if (known.post_community_id, known.post_id) != (place.post.community_id, place.post.id):
            self.intake.reject(line.index, "post", "a comment keeps its post")
            return False
        return fixed(self.intake, line.index, "created_at", line.clean.created_at, known.created_at)

    def _with_parents(
        self,
        lines: list[Line[CleanComment]],
        new: list[Line[CleanComment]],
        places: dict[int, Placed],
        known: dict[str, KnownComment],
    ) -> tuple[list[Line[CleanComment]], list[Line[CleanComment]]]:
        """Reject new comments whose parent is not under the same post, and their answers in turn."""
        posts = {one.external_id: one.post_id for one in known.values()}
        posts |= {line.clean.external_id: places[line.index].post.id for line in new}
        waiting = {line.clean.external_id: line for line in new}
        orphans: set[int] = set()
        lost = True
        while lost:
            lost = False
            for line in list(waiting.values()):
                parent = line.clean.parent
                if not parent or posts.get(parent) == places[line.index].post.id:
                    continue
                reason = f"there is no comment {parent!r} under post {line.clean.post!r}"
                self.intake.reject(line.index, "parent", reason)
                orphans.add(line.index)
                del waiting[line.clean.external_id], posts[line.clean.external_id]
                lost = True
        kept = [line for line in lines if line.index not in orphans]
        return kept, list(waiting.values())

    async def _insert(
        self,
        session: Session,
        lines: list[Line[CleanComment]],
        places: dict[int, Placed],
        known: dict[str, KnownComment],
    ) -> None:
        dated = [(line.clean.created_at or self._now, line.clean.external_id) for line in lines]
        ids = await ids_for(session, QUERIES["comments_taken"], self._community_id, dated)
        named = {one.external_id: one.comment_id for one in known.values()}
        named |= {line.clean.external_id: one for line, one in zip(lines, ids, strict=True)}
        rows: list[dict[str, object]] = []
        engagements: list[Engagement] = []
        moves = CounterMoves()
        for line, identity, (created, _) in zip(lines, ids, dated, strict=True):
            clean, place = line.clean, places[line.index]
            rows.append(
                {
                    "comment_id": identity,
                    "external_id": clean.external_id,
                    "author_id": place.author.id,
                    "post_id": place.post.id,
                    "parent_id": named[clean.parent] if clean.parent else None,
                    "text": clean.text,
                    "created_at": created,
                }
            )
            engagements.append(
                Engagement(
                    member=place.author, post=place.post, kind=Action.COMMENT, happened_at=created
                )
            )
            moves.post(place.post, "comments", 1)
            self.intake.ids[clean.external_id] = identity
        self.intake.created += await session.run(
            QUERIES["insert_comments"], community_id=self._community_id, rows=document(rows)
        )
        await logged(session, engagements)
        moves.apply(session)

    async def _update(
        self, session: Session, lines: list[Line[CleanComment]], known: dict[str, KnownComment]
    ) -> None:
        rows: list[dict[str, object]] = []
        for line in lines:
            identity = known[line.clean.external_id].comment_id
            self.intake.ids[line.clean.external_id] = identity
            rows.append({"comment_id": identity, "text": line.clean.text})
        changed = await session.run(
            QUERIES["update_comments"],
            community_id=self._community_id,
            rows=document(rows),
            now=self._now,
        )
        self.intake.updated += changed
        self.intake.unchanged += len(rows) - changed
