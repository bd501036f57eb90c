"""Members and their profiles."""

from collections.abc import Sequence
from typing import NoReturn

from msgspec import Struct
from msgspec.structs import asdict

from millrace.community import validator
from millrace.community.cases import recorded, removal
from millrace.community.counts import CounterMoves
from millrace.community.intake import QUERIES, bounded, in_bulk, operators_only
from millrace.community.leaving import Removal, left
from millrace.community.member_batch import MemberBatch, profile
from millrace.community.moves import Thing, ThingKind
from millrace.community.ports import Belongings
from millrace.community.retries import retried
from millrace.community.rights import reasoned
from millrace.community.types import (
    POSITIVE_ACTIONS,
    BatchResult,
    Key,
    Member,
    MemberCounts,
    MemberDraft,
    ProfileChanges,
    Role,
    Viewer,
    parse_key,
)
from millrace.community.versions import expect
from millrace.community.visibility import asker, unseen
from millrace.kernel.clock import Clock
from millrace.kernel.errors import ConflictError, ForbiddenError, InvalidError
from millrace.kernel.ids import IdMaker
from millrace.store.router import Router
from millrace.store.session import Session


class BesideProfile(Struct, frozen=True, kw_only=True):
    """Numbers of a member, and what stands between them and the viewer.

    following: how many they follow. follows_me: whether they follow the viewer.
    """

    followers: int
    posts: int
    views: int
    likes: int
    following: int
    community_name: str
    followed_by_me: bool
    follows_me: bool
    blocked_by_me: bool
    muted_by_me: bool


class MemberProfile(Struct, frozen=True, kw_only=True):
    """A member with what a profile page says beside the profile."""

    member: Member
    beside: BesideProfile


class Members:
    """Profiles may be read by every viewer whom no block keeps away."""

    def __init__(
        self,
        *,
        router: Router,
        clock: Clock,
        ids: IdMaker,
        belongings: Sequence[Belongings] = (),
    ) -> None:
        self._router = router
        self._clock = clock
        self._ids = ids
        self._belongings = belongings

    async def get(self, viewer: Viewer, key: Key) -> Member:
        """Return one member.

        Passes on:
            NotFoundError: there is none, or the viewer may not meet them.
        """
        async with self._router.read(viewer.token) as session:
            return await _seen(session, viewer, key)

    async def several(self, keys: Sequence[Key]) -> list[Member]:
        """Return those of the members who exist, in no order, whoever asks: for their names."""
        async with self._router.read() as session:
            return await session.rows(
                QUERIES["members_by_keys"],
                Member,
                communities=[key.community_id for key in keys],
                members=[key.id for key in keys],
            )

    async def find(self, name: str) -> Member:
        """Return the member with this key, handle or external id, in any community.

        Raises:
            ConflictError: several communities have one; names their keys.

        Passes on:
            NotFoundError: there is none.
        """
        text = validator.searchable(name)
        try:
            key = parse_key(text)
        except InvalidError:
            key = Key(0, 0)
        async with self._router.read() as session:
            found = await session.rows(
                QUERIES["members_named"],
                Member,
                name=text,
                community_id=key.community_id,
                member_id=key.id,
            )
        if not found:
            unseen("member", text)
        exact = [one for one in found if one.key == key]
        if not exact and len(found) > 1:
            keys = ", ".join(str(one.key) for one in found[:10])
            raise ConflictError(
                f"several members are called {text!r}: {keys}",
                field="member",
                value=text,
                limit="one member",
                next_step="name the member by one of these ids",
            )
        return (exact or found)[0]

    async def sample(self, limit: int = 12) -> list[Member]:
        """Return members with posts, followers and a history first, of every community in turn.

        For a demo sign-in. The same members in the same data, in the same order.
        """
        async with self._router.read() as session:
            return await session.rows(
                QUERIES["member_sample"],
                Member,
                kinds=sorted(POSITIVE_ACTIONS),
                limit=validator.limit(limit),
            )

    async def counts(self, key: Key) -> MemberCounts:
        """Return the numbers of a member as an author.

        Passes on:
            NotFoundError: there is no such member.
        """
        async with self._router.read() as session:
            found = await session.row(
                QUERIES["member_counts"],
                MemberCounts,
                community_id=key.community_id,
                member_id=key.id,
            )
        if found is None:
            unseen("member", key)
        return found

    async def profile(self, viewer: Viewer, key: Key) -> MemberProfile:
        """Return a member with the numbers and the relations that a profile page shows.

        Passes on:
            NotFoundError: there is none, or the viewer may not meet them.
        """
        async with self._router.read(viewer.token) as session:
            member = await _seen(session, viewer, key)
            beside = await session.row(
                QUERIES["member_profile"],
                BesideProfile,
                **{name: value for name, value in asker(viewer).items() if name != "viewer_role"},
                community_id=key.community_id,
                member_id=key.id,
            )
        if beside is None:
            unseen("member", key)
        return MemberProfile(member=member, beside=beside)

    async def update(
        self, viewer: Viewer, key: Key, changes: ProfileChanges, expected_version: int | None = None
    ) -> Member:
        """Change a profile; its member and operators may.

        Passes on:
            NotFoundError: there is none, or the viewer may not meet them.
            ForbiddenError: it is somebody else's.
            ConflictError: the profile has another version than expected.
            InvalidError: a value is wrong.
        """
        async with self._router.write() as session:
            await session.run(
                QUERIES["lock_member"], community_id=key.community_id, member_id=key.id
            )
            member = await _seen(session, viewer, key)
            if viewer.member != key and not viewer.oversees:
                _not_yours(viewer, key, "change")
            expect(expected_version, member.system_version, f"member {key}")
            changed = await session.row(
                QUERIES["update_profile"],
                Member,
                community_id=key.community_id,
                member_id=key.id,
                **_merged(member, changes),
            )
        return changed or member

    async def remove(
        self, viewer: Viewer, key: Key, reason: str, expected_version: int | None = None
    ) -> None:
        """Remove a member: nobody sees them or their posts any more, and no token of theirs holds.

        They follow nobody any more. What a moderator removes goes into the audit trail. The member, a moderator of the community and operators may; only an operator removes a
        moderator. Removing twice changes nothing.

        Passes on:
            NotFoundError: there is none, or the viewer may not meet them.
            ForbiddenError: the viewer may not remove them.
            ConflictError: the profile has another version than expected.
            InvalidError: the reason is too long, cannot be stored, or is missing where somebody
                else removes them.
        """
        await retried(lambda: self._remove(viewer, key, reason, expected_version))

    async def _remove(
        self, viewer: Viewer, key: Key, reason: str, expected_version: int | None
    ) -> None:
        async with self._router.write() as session:
            await session.run(
                QUERIES["lock_member"], community_id=key.community_id, member_id=key.id
            )
            member = await _seen(session, viewer, key)
            moderates = (
                viewer.role is Role.MODERATOR
                and viewer.member is not None
                and viewer.member.community_id == key.community_id
                and member.role is Role.MEMBER
            )
            if not (viewer.oversees or viewer.member == key or moderates):
                _not_yours(viewer, key, "remove")
            expect(expected_version, member.system_version, f"member {key}")
            why, now = reasoned(viewer, key, reason), self._clock.now()
            counters = CounterMoves()
            said = Removal(now, viewer.name, why)
            removed = await left(session, key, said, counters, self._belongings)
            if removed and viewer.member != key:
                deed = removal(Thing(ThingKind.MEMBER, key), key.community_id, key, why)
                await recorded(session, viewer, deed, self._ids.next(), now)
            counters.apply(session)

    async def upsert(
        self, viewer: Viewer, community_id: int, drafts: Sequence[MemberDraft]
    ) -> BatchResult:
        """Create members or bring them up to date, by external id.

        A member without a handle gets one made from the display name. A removed member stays
        removed.

        Passes on:
            ForbiddenError: the viewer is no operator.
            NotFoundError: there is no such community.
            TooLargeError: the batch is too long.
        """
        operators_only(viewer, "create or change members in bulk")
        bounded("drafts", drafts)

        async def work(session: Session) -> BatchResult:
            batch = MemberBatch(community_id, self._clock.now())
            await batch.write(session, batch.cleaned(drafts))
            return batch.intake.result()

        return await in_bulk(self._router, community_id, work)

    async def newest(self, viewer: Viewer, community_id: int, limit: int = 12) -> list[Member]:
        """Return the members who came last; nobody where the viewer may not list them.

        Passes on:
            InvalidError: the limit is outside its bounds.
        """
        if not _lists(viewer, community_id):
            return []
        async with self._router.read(viewer.token) as session:
            return await session.rows(
                QUERIES["newest_members"],
                Member,
                **asker(viewer),
                community_id=community_id,
                limit=validator.limit(limit),
            )

    # Last in the class: after it, `list` in an annotation would mean this method.
    async def list(
        self, viewer: Viewer, community_id: int, after: int = 0, limit: int = 50
    ) -> list[Member]:
        """Return members of a community whose id is larger than `after`, by id.

        Raises:
            ForbiddenError: the viewer is of another community.

        Passes on:
            InvalidError: the limit is outside its bounds.
        """
        if not _lists(viewer, community_id):
            raise ForbiddenError(
                f"{viewer.name} may not list the members of community {community_id}",
                field="community_id",
                value=community_id,
                limit="the own community",
                next_step="ask for your own community",
            )
        async with self._router.read(viewer.token) as session:
            return await session.rows(
                QUERIES["members_of_community"],
                Member,
                **asker(viewer),
                community_id=community_id,
                after=after,
                limit=validator.limit(limit),
            )


def _lists(viewer: Viewer, community_id: int) -> bool:
    """Return whether the viewer may list the members of a community: at home, and operators."""
    at_home = viewer.member is not None and viewer.member.community_id == community_id
    return at_home or viewer.oversees


async def _seen(session: Session, viewer: Viewer, key: Key) -> Member:
    """Return a member whom the viewer may meet.

    Passes on:
        NotFoundError: there is none, or the viewer may not meet them.
    """
    found = await session.row(
        QUERIES["member_by_key"],
        Member,
        **asker(viewer),
        community_id=key.community_id,
        member_id=key.id,
    )
    if found is None:
        unseen("member", key)
    return found


def _not_yours(viewer: Viewer, key: Key, verb: str) -> NoReturn:
    """Refuse to touch what belongs to somebody else.

    Raises:
        ForbiddenError: always.
    """
    raise ForbiddenError(
        f"{viewer.name} may not {verb} member {key}",
        field="member_id",
        value=str(key),
        limit="the own profile",
        next_step="ask a moderator of the community or an operator",
    )


def _merged(member: Member, changes: ProfileChanges) -> dict[str, object]:
    """Return the profile with the changes in it, cleaned."""
    new = {name: value for name, value in asdict(changes).items() if value is not None}
    whole = ProfileChanges(**({name: getattr(member, name) for name in asdict(changes)} | new))
    return profile(whole)
