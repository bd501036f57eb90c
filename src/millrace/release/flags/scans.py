"""What code was searched for flags elsewhere, and what it named: the newest scan of each repository.

A scan is what `millrace flags references` found in a tree of code. It changes nothing for anybody;
the trail is told where another set of flags is not named any more, and of a scan that is forgotten.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from millrace.kernel.clock import Clock
from millrace.kernel.errors import InvalidError, NotFoundError, TooLargeError
from millrace.kernel.ids import IdMaker
from millrace.release.flags.book import FLAGS_MAX
from millrace.release.flags.changes import name_of
from millrace.release.flags.repository import QUERIES
from millrace.release.flags.types import KEY_MAX, Actor, FlagMove, Scan, ScanLine, Seen
from millrace.store.router import Router
from millrace.store.session import Session, document

REPOSITORIES_MAX = 100
REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
COUNT_MAX = (1 << 31) - 1
AHEAD = timedelta(minutes=5)  # that another machine's clock may be before ours
TOLD_MAX = 1_000  # keys in a line of the trail


class _Held(Struct, frozen=True):
    at: datetime
    places: dict[str, int]


class _Name(Struct, frozen=True):
    key: str


class ScanBook:
    """Keeps the newest scan of each repository."""

    def __init__(self, *, router: Router, clock: Clock, ids: IdMaker) -> None:
        self._router = router
        self._clock = clock
        self._ids = ids

    async def lines(self) -> list[ScanLine]:
        """Return the newest scan of each repository, by name."""
        async with self._router.read() as session:
            return await session.rows(QUERIES["scans"], ScanLine, repository=None)

    async def seen(self, key: str | None = None) -> Mapping[str, Seen]:
        """Return what scans say of a flag, or of each that any of them looked for."""
        async with self._router.read() as session:
            found = await session.rows(QUERIES["seen_in_code"], Seen, key=key)
        return {one.key: one for one in found}

    async def put(self, scan: Scan, actor: Actor) -> ScanLine:
        """Keep a scan, unless a newer one of its repository is kept; return which is.

        The same scan again changes nothing. Keys that no flag has are left out.

        Raises:
            TooLargeError: there are too many repositories.

        Passes on:
            InvalidError: it cannot be a scan; says why.
        """
        expect_scan(scan, self._clock.now())
        async with self._router.write() as session:
            await session.value(QUERIES["lock_flags"])
            held = await session.row(QUERIES["hold_scan"], _Held, repository=scan.repository)
            if held is None and await session.value(QUERIES["count_scans"]) >= REPOSITORIES_MAX:
                raise TooLargeError(
                    f"scans of {REPOSITORIES_MAX} repositories are kept already",
                    field="repository",
                    value=scan.repository,
                    limit=REPOSITORIES_MAX,
                    next_step="forget one: `millrace flags scans --forget NAME`",
                )
            if held is None or held.at < scan.at:
                flags = {one.key for one in await session.rows(QUERIES["flag_keys"], _Name)}
                places = {key: n for key, n in sorted(scan.places.items()) if key in flags}
                await self._write(session, scan, places, held, actor)
            (line,) = await session.rows(QUERIES["scans"], ScanLine, repository=scan.repository)
        return line

    async def remove(self, repository: str, actor: Actor) -> None:
        """Forget the scan of a repository, which is not looked at any more.

        Raises:
            NotFoundError: none is kept.
        """
        async with self._router.write() as session:
            await session.value(QUERIES["lock_flags"])
            held = await session.row(QUERIES["hold_scan"], _Held, repository=repository)
            if held is None:
                raise NotFoundError(
                    f"no scan of {repository[:100]!r} is kept",
                    field="repository",
                    value=repository[:100],
                    next_step="`millrace flags scans` shows those that are",
                )
            said = FlagMove.REMOVE, told(held.places), ""
            await self._tell(session, repository, said, actor)
            await session.run(QUERIES["forget_scan"], repository=repository)

    async def _write(
        self,
        session: Session,
        scan: Scan,
        places: Mapping[str, int],
        held: _Held | None,
        actor: Actor,
    ) -> None:
        before, after = "" if held is None else told(held.places), told(places)
        if before != after:
            await self._tell(session, scan.repository, (FlagMove.PUT, before, after), actor)
        await session.run(
            QUERIES["put_scan"],
            repository=scan.repository,
            scanned_at=scan.at,
            sent_at=self._clock.now(),
            actor=name_of(actor),
            files=scan.files,
            places=document(places),
        )

    async def _tell(
        self, session: Session, repository: str, said: tuple[FlagMove, str, str], actor: Actor
    ) -> None:
        """Write a line of the trail, before the change that it tells of."""
        move, before, after = said
        key = scan_key(repository)
        last = int(await session.value(QUERIES["last_version"], key=key))
        session.later(
            QUERIES["tell_change"],
            change_id=self._ids.next(),
            key=key,
            version=last + 1,
            move=move.value,
            actor=name_of(actor),
            reason=f"a scan of {repository} was {'sent' if after else 'forgotten'}",
            before=before,
            after=after,
            owner="",
            request_id=None,
            now=self._clock.now(),
        )


def scan_key(repository: str) -> str:
    """Return under which key the trail of a repository's scans is kept."""
    return f"$scan:{repository}"


def told(places: Mapping[str, int]) -> str:
    """Return what the trail says of a scan: which flags it did not find, as JSON."""
    unnamed = sorted(key for key, count in places.items() if not count)
    said: dict[str, Any] = {"unnamed": unnamed[:TOLD_MAX]}
    if len(unnamed) > TOLD_MAX:
        said["more"] = len(unnamed) - TOLD_MAX
    return msgspec.json.encode(said).decode()


def expect_scan(scan: Scan, now: datetime) -> None:
    """Refuse what cannot be a scan.

    Raises:
        InvalidError: its name, its time or a count cannot be.
        TooLargeError: it speaks of more flags than there can be.
    """
    if REPOSITORY.fullmatch(scan.repository) is None:
        raise InvalidError(
            f"{scan.repository[:100]!r} is no name of a repository",
            field="repository",
            value=scan.repository[:100],
            limit=REPOSITORY.pattern,
            next_step="use letters, digits, full stops, hyphens and underscores: shop-web",
        )
    if scan.at.tzinfo is None or scan.at > now + AHEAD:
        raise InvalidError(
            f"a scan of {scan.at.isoformat()} is yet to be made, or has no time zone",
            field="scanned_at",
            value=scan.at.isoformat(),
            limit=now.isoformat(),
            next_step="set the clock of the machine that searches",
        )
    if len(scan.places) > FLAGS_MAX:
        raise TooLargeError(
            f"the scan speaks of {len(scan.places):,} flags",
            field="places",
            value=len(scan.places),
            limit=FLAGS_MAX,
            next_step="name only flags that there are",
        )
    for key, count in {**scan.places, "files": scan.files}.items():
        if not 0 <= count <= COUNT_MAX or len(key) > KEY_MAX:
            raise InvalidError(
                f"{count:,} places of {key[:KEY_MAX]!r} cannot be",
                field="places",
                value=count,
                limit=f"0 to {COUNT_MAX:,}",
                next_step="send what `millrace flags references` counted",
            )
