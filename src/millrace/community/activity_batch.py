"""One batch of activity: checked, logged once, with its effects and its counters."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from millrace.community import validator
from millrace.community.cases import post_report, reported
from millrace.community.counts import COUNTER_OF, CounterMoves
from millrace.community.intake import QUERIES, Intake, Line, members_named, posts_named
from millrace.community.logs import LoggedRow, already_logged, already_shown, counted, logged, shown
from millrace.community.relations import blocked, muted
from millrace.community.types import (
    BIGINT_MAX,
    EXTERNAL_ID_MAX,
    WORD_MAX,
    Action,
    Engagement,
    EngagementDraft,
    Impression,
    ImpressionDraft,
    Key,
    Viewer,
)
from millrace.community.visibility import asker
from millrace.kernel.errors import InvalidError
from millrace.store.session import Ask, Session, document

D = TypeVar("D", ImpressionDraft, EngagementDraft)
T = TypeVar("T", Impression, Engagement)

ONLY_COUNTED = frozenset(
    {Action.CLICK, Action.LONG_DWELL, Action.SHARE, Action.HIDE, Action.COMMENT}
)
AGAINST_AUTHOR = frozenset({Action.MUTE, Action.BLOCK})


class AuthorRow(Struct, frozen=True):
    """A post and who wrote it."""

    community_id: int
    post_id: int
    author_id: int


class MemberRow(Struct, frozen=True):
    """The key of a member."""

    community_id: int
    member_id: int


class ActivityBatch:
    """Gathers entries, then writes them in one transaction."""

    def __init__(self, now: datetime) -> None:
        self.intake = Intake()
        self._now = now
        self._impressions: list[Line[Impression]] = []
        self._engagements: list[Line[Engagement]] = []

    def take_impressions(self, entries: Sequence[tuple[int, Impression]]) -> None:
        """Take impressions with their places in the batch; wrong ones are rejected."""
        self._impressions += self._checked(entries, self._clean_impression)

    def take_engagements(self, entries: Sequence[tuple[int, Engagement]]) -> None:
        """Take engagements with their places in the batch; wrong ones are rejected."""
        self._engagements += self._checked(entries, self._clean_engagement)

    async def named(
        self,
        session: Session,
        community_id: int,
        drafts: Sequence[D],
        entry: Callable[[D, Key, Key], T],
    ) -> list[tuple[int, T]]:
        """Return the entries that drafts stand for; those with unknown names are rejected."""
        lines = self.intake.cleaned(drafts, _with_clean_names)
        members = await members_named(session, community_id, (line.clean.member for line in lines))
        posts = await posts_named(session, community_id, (line.clean.post for line in lines))
        entries: list[tuple[int, T]] = []
        for line in lines:
            member, post = members.get(line.clean.member), posts.get(line.clean.post)
            if member is None:
                reason = f"there is no member {line.clean.member!r}"
                self.intake.reject(line.index, "member", reason)
            elif post is None:
                self.intake.reject(line.index, "post", f"there is no post {line.clean.post!r}")
            else:
                entries.append((line.index, entry(line.clean, member, post)))
        return entries

    async def write(self, session: Session, viewer: Viewer, *, commits: bool = False) -> None:
        """Log what is new, with its effects and counters.

        Args:
            session: of one transaction.
            viewer: who records it.
            commits: whether nothing comes behind it, so that it may end the transaction itself.
        """
        everything = [line.clean for line in (*self._impressions, *self._engagements)]
        authors, members = await _there(
            session, viewer, {one.post for one in everything}, {one.member for one in everything}
        )
        impressions = self._to_log(
            self._impressions, authors, members, await self._repeated(session, authors, "shown")
        )
        engagements = self._to_log(
            self._engagements, authors, members, await self._repeated(session, authors, "done")
        )
        if commits and _only_counts(impressions, engagements):
            new = await counted(session, [line.clean for line in engagements])
            self.intake.created += len(new)
            self.intake.unchanged += len(engagements) - len(new)
            return
        moves = CounterMoves()
        new_views = await shown(session, [line.clean for line in impressions])
        for row in new_views:
            moves.shown(row.post, authors[row.post])
        new = await logged(session, [line.clean for line in engagements])
        await self._effects(session, new, authors, moves)
        moves.apply(session)
        self.intake.created += len(new_views) + len(new)
        self.intake.unchanged += len(impressions) + len(engagements) - len(new_views) - len(new)

    async def _effects(
        self,
        session: Session,
        new: list[LoggedRow],
        authors: dict[Key, Key],
        moves: CounterMoves,
    ) -> None:
        for row in new:
            counter = COUNTER_OF.get(row.action)
            if counter is not None:
                moves.post(row.post, counter, 1)
        likes = [row for row in new if row.action is Action.LIKE]
        if likes:
            for row in await session.rows(QUERIES["insert_likes"], LoggedRow, rows=document(likes)):
                moves.liked(row.post, authors[row.post], 1)

        def pairs(action: Action) -> list[tuple[Key, Key]]:
            return [(row.member, authors[row.post]) for row in new if row.action is action]

        await blocked(session, pairs(Action.BLOCK), self._now, moves)
        await muted(session, pairs(Action.MUTE), self._now)
        reports = [row for row in new if row.action is Action.REPORT]
        said = [post_report(authors[row.post], row.member, row.post, row.at) for row in reports]
        await reported(session, said, self._now)

    def _checked(self, entries: Sequence[tuple[int, T]], clean: Callable[[T], T]) -> list[Line[T]]:
        lines: list[Line[T]] = []
        for index, entry in entries:
            try:
                lines.append(Line(index, clean(entry)))
            except InvalidError as exc:
                self.intake.reject(index, exc.field or "entry", exc.message)
        return lines

    def _clean_impression(self, entry: Impression) -> Impression:
        if entry.served_feed_id is not None:
            validator.number("served_feed_id", entry.served_feed_id, BIGINT_MAX)
        return replace(
            entry,
            shown_at=validator.moment("shown_at", entry.shown_at, self._now),
            position=validator.number("position", entry.position),
            surface=validator.name("surface", entry.surface, WORD_MAX),
            app_version=validator.line("app_version", entry.app_version, WORD_MAX),
        )

    def _clean_engagement(self, entry: Engagement) -> Engagement:
        if entry.position is not None:
            validator.number("position", entry.position)
        if entry.dwell_ms is not None:
            validator.number("dwell_ms", entry.dwell_ms)
        return replace(
            entry,
            kind=validator.choice("kind", entry.kind, Action),
            happened_at=validator.moment("happened_at", entry.happened_at, self._now),
            surface=validator.name("surface", entry.surface, WORD_MAX),
            app_version=validator.line("app_version", entry.app_version, WORD_MAX),
        )

    async def _repeated(
        self, session: Session, authors: Mapping[Key, Key], what: Literal["shown", "done"]
    ) -> frozenset[int]:
        """Return the places of entries that are logged already though their post is unseen now.

        A member who blocks an author and sends the batch again must get the same answer.
        """
        if what == "shown":
            shown_again = [x for x in self._impressions if x.clean.post not in authors]
            return await already_shown(session, {x.index: x.clean for x in shown_again})
        done_again = [x for x in self._engagements if x.clean.post not in authors]
        return await already_logged(session, {x.index: x.clean for x in done_again})

    def _to_log(
        self,
        lines: list[Line[T]],
        authors: Mapping[Key, Key],
        members: Collection[Key],
        repeated: Collection[int],
    ) -> list[Line[T]]:
        """Return the lines whose member and post are there; one answer for unknown and unseen."""
        kept: list[Line[T]] = []
        for line in lines:
            entry = line.clean
            author = authors.get(entry.post)
            if entry.member not in members:
                self.intake.reject(line.index, "member", f"there is no member {entry.member}")
            elif line.index in repeated:
                self.intake.unchanged += 1
            elif author is None:
                self.intake.reject(line.index, "post", f"there is no post {entry.post}")
            elif author == entry.member and _against_author(entry):
                self.intake.reject(line.index, "kind", "a member cannot mute or block themself")
            else:
                kept.append(line)
        return kept


def _only_counts(impressions: list[Line[Impression]], engagements: list[Line[Engagement]]) -> bool:
    """Return whether all that a batch does is to be logged and to move counters of posts."""
    return (
        not impressions
        and bool(engagements)
        and all(line.clean.kind in ONLY_COUNTED for line in engagements)
    )


def _against_author(entry: Impression | Engagement) -> bool:
    return isinstance(entry, Engagement) and entry.kind in AGAINST_AUTHOR


def _with_clean_names(draft: D) -> D:
    return replace(
        draft,
        member=validator.name("member", draft.member, EXTERNAL_ID_MAX),
        post=validator.name("post", draft.post, EXTERNAL_ID_MAX),
    )


async def _there(
    session: Session, viewer: Viewer, posts: Collection[Key], members: Collection[Key]
) -> tuple[dict[Key, Key], set[Key]]:
    """Return the authors of those posts that the viewer may see, and the members who exist."""
    seen, found = await session.two(
        Ask(
            QUERIES["authors_of_seen"],
            AuthorRow,
            {
                **asker(viewer),
                "communities": [key.community_id for key in posts],
                "posts": [key.id for key in posts],
            },
        ),
        Ask(
            QUERIES["members_there"],
            MemberRow,
            {
                "communities": [key.community_id for key in members],
                "members": [key.id for key in members],
            },
        ),
    )
    authors = {
        Key(row.community_id, row.post_id): Key(row.community_id, row.author_id) for row in seen
    }
    return authors, {Key(row.community_id, row.member_id) for row in found}
