"""Member drafts: cleaned, given ids and handles, written in one go."""

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millrace.community import validator
from millrace.community.intake import QUERIES, Intake, Line, fixed, home_of, ids_for
from millrace.community.types import (
    ABOUT_MAX,
    EXTERNAL_ID_MAX,
    HANDLE_MAX,
    HEADLINE_MAX,
    LANGUAGES_MAX,
    NAME_MAX,
    SKILLS_MAX,
    MemberDraft,
    ProfileChanges,
    Role,
)
from millrace.kernel.errors import InvalidError
from millrace.kernel.hashing import fingerprint
from millrace.store.session import Session, document

BASE_MAX = 30


class CleanMember(Struct, frozen=True):
    """A member draft that passed its checks; an empty handle means make one."""

    external_id: str
    handle: str
    profile: dict[str, object]
    role: Role
    joined_at: datetime | None


class KnownMember(Struct, frozen=True):
    """A member who is there already."""

    external_id: str
    member_id: int
    joined_at: datetime


class HandleOwner(Struct, frozen=True):
    """Who has a handle."""

    handle: str
    member_id: int


class Written(Struct, frozen=True):
    """A row that a statement created or changed."""

    external_id: str


def profile(raw: ProfileChanges | MemberDraft) -> dict[str, object]:
    """Return the six texts of a profile, cleaned.

    Passes on:
        InvalidError: one of them is wrong; names it.
    """
    return {
        "display_name": validator.name("display_name", raw.display_name or "", NAME_MAX),
        "headline": validator.line("headline", raw.headline or "", HEADLINE_MAX),
        "about": validator.prose("about", raw.about or "", ABOUT_MAX),
        "skills": validator.words("skills", raw.skills or [], SKILLS_MAX),
        "place": validator.line("place", raw.place or "", NAME_MAX),
        "languages": validator.languages("languages", raw.languages or [], LANGUAGES_MAX),
    }


def handle_candidates(display_name: str, external_id: str) -> list[str]:
    """Return handles for a new member, the nicest first; the last one is as good as unique."""

    def plain(text: str) -> str:
        ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
        return re.sub(r"[^a-z0-9]+", "-", ascii_text)[:BASE_MAX].strip("-")

    base = plain(display_name) or "member"
    second = f"{base}-{plain(external_id)}".strip("-")
    return [base, second, f"{base}-{fingerprint(external_id.encode())}"]


class MemberBatch:
    """One batch of member drafts for one community."""

    def __init__(self, community_id: int, now: datetime) -> None:
        self.intake = Intake()
        self._community_id = community_id
        self._now = now

    def cleaned(self, drafts: Sequence[MemberDraft]) -> list[Line[CleanMember]]:
        """Return the drafts that pass their own checks; the others are rejected."""
        lines = self.intake.cleaned(drafts, self._clean)
        lines = self.intake.distinct(lines, lambda clean: clean.external_id, "external_id")
        named = [line for line in lines if line.clean.handle]
        kept = self.intake.distinct(named, lambda clean: clean.handle, "handle")
        indexes = {line.index for line in kept}
        return [line for line in lines if not line.clean.handle or line.index in indexes]

    def _clean(self, draft: MemberDraft) -> CleanMember:
        role = validator.choice("role", draft.role, Role)
        if role not in (Role.MEMBER, Role.MODERATOR):
            raise InvalidError(
                f"role {role.value!r} is not one of a member",
                field="role",
                value=role.value,
                limit="member or moderator",
                next_step="use `millrace operator create` for people who run the installation",
            )
        at = draft.joined_at
        return CleanMember(
            validator.name("external_id", draft.external_id, EXTERNAL_ID_MAX),
            draft.handle and validator.handle("handle", draft.handle, HANDLE_MAX),
            profile(draft),
            role,
            None if at is None else validator.moment("joined_at", at, self._now),
        )

    async def write(self, session: Session, lines: list[Line[CleanMember]]) -> None:
        """Write the lines inside a bulk transaction.

        Passes on:
            NotFoundError: there is no such community.
        """
        await home_of(session, self._community_id)
        known = {
            one.external_id: one
            for one in await session.rows(
                QUERIES["known_members"],
                KnownMember,
                community_id=self._community_id,
                names=[line.clean.external_id for line in lines],
            )
        }
        lines = [line for line in lines if self._agrees(line, known.get(line.clean.external_id))]
        owners = await self._owners(session, lines)
        lines = [line for line in lines if self._may_have(line, known, owners)]
        new = [line for line in lines if line.clean.external_id not in known]
        old = [line for line in lines if line.clean.external_id in known]
        await self._insert(session, new, lines, set(owners))
        await self._update(session, old, known)

    def _agrees(self, line: Line[CleanMember], known: KnownMember | None) -> bool:
        if known is None:
            return True
        return fixed(self.intake, line.index, "joined_at", line.clean.joined_at, known.joined_at)

    async def _owners(self, session: Session, lines: list[Line[CleanMember]]) -> dict[str, int]:
        """Return who has the handles that these lines name or may be given."""
        handles: set[str] = set()
        for line in lines:
            clean = line.clean
            made = handle_candidates(str(clean.profile["display_name"]), clean.external_id)
            handles.update([clean.handle] if clean.handle else made)
        found = await session.rows(
            QUERIES["handle_owners"],
            HandleOwner,
            community_id=self._community_id,
            handles=sorted(handles),
        )
        return {one.handle: one.member_id for one in found}

    def _may_have(
        self, line: Line[CleanMember], known: dict[str, KnownMember], owners: dict[str, int]
    ) -> bool:
        owner = owners.get(line.clean.handle)
        me = known.get(line.clean.external_id)
        if owner is None or (me is not None and me.member_id == owner):
            return True
        self.intake.reject(
            line.index, "handle", f"handle {line.clean.handle!r} belongs to another member"
        )
        return False

    async def _insert(
        self,
        session: Session,
        new: list[Line[CleanMember]],
        lines: list[Line[CleanMember]],
        handles: set[str],
    ) -> None:
        dated = [(line.clean.joined_at or self._now, line.clean.external_id) for line in new]
        ids = await ids_for(session, QUERIES["members_taken"], self._community_id, dated)
        handles |= {line.clean.handle for line in lines}
        rows: list[dict[str, object]] = []
        for line, identity, (joined, _) in zip(new, ids, dated, strict=True):
            clean = line.clean
            made = handle_candidates(str(clean.profile["display_name"]), clean.external_id)
            handle = clean.handle or next(one for one in made if one not in handles)
            handles.add(handle)
            rows.append(
                clean.profile
                | {"member_id": identity, "external_id": clean.external_id, "handle": handle}
                | {"role": clean.role, "joined_at": joined}
            )
            self.intake.ids[clean.external_id] = identity
        self.intake.created += await session.run(
            QUERIES["insert_members"], community_id=self._community_id, rows=document(rows)
        )

    async def _update(
        self, session: Session, old: list[Line[CleanMember]], known: dict[str, KnownMember]
    ) -> None:
        rows: list[dict[str, object]] = []
        for line in old:
            clean = line.clean
            identity = known[clean.external_id].member_id
            self.intake.ids[clean.external_id] = identity
            rows.append(
                clean.profile | {"member_id": identity, "handle": clean.handle, "role": clean.role}
            )
        changed = await session.run(
            QUERIES["update_members"], community_id=self._community_id, rows=document(rows)
        )
        self.intake.updated += changed
        self.intake.unchanged += len(rows) - changed
