"""The encoders of an installation: which there are, which one serves, who changed it and when.

    candidate   somebody added it; whoever embeds takes it up
    embedding   vectors are made beside those that serve
    ready       every post and every member who has a vector has one of it, and goes on having one
    serving     feeds are made with it; there is one at any moment
    retired     its vectors go

A promotion and a rollback are one transaction each: the one that served is ready from then on.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NoReturn

from msgspec import Struct

from millrace.feed.pooled_history import PooledHistory
from millrace.feed.repository import QUERIES
from millrace.kernel.clock import Clock
from millrace.kernel.errors import ConflictError, InvalidError, NotFoundError
from millrace.store.router import Router
from millrace.store.session import Session, document

PACKAGED = "packaged"
NEWEST = "newest"
NAME_CHARACTERS_MAX = 80
SETTINGS, EMBEDDING = "settings", "embedding"  # who changes what nobody asked for


class State(StrEnum):
    """Where an encoder stands."""

    CANDIDATE = "candidate"
    EMBEDDING = "embedding"
    READY = "ready"
    SERVING = "serving"
    RETIRED = "retired"


HELD = frozenset({State.READY, State.SERVING})
"""Those whose vectors a server holds."""
CURRENT = HELD | {State.CANDIDATE, State.EMBEDDING}
"""Those whose vectors are made."""
UNDER_WAY = (State.EMBEDDING, State.READY)
RETIRED_SECONDS = 600.0  # a server has changed over by then; until then vectors stay in the tables
FAULT_CHARACTERS_MAX = 500


class EncoderVersion(Struct, frozen=True, kw_only=True):
    """An encoder of this installation.

    directory: empty for the packaged model. chosen: whether a person made it serve, or a gate did.
    history: how what a member liked is pooled; None where it stands in the prompt, in words.
    fault: why it could not be used the last time that it was tried.
    """

    version: str
    name: str
    directory: str
    dims: int
    state: State
    added_by: str
    added_at: datetime
    changed_by: str
    changed_at: datetime
    chosen: bool = False
    metrics: dict[str, Any] = {}
    history: PooledHistory | None = None
    fault: str = ""
    served_at: datetime | None = None

    @property
    def of_settings(self) -> bool:
        """Return whether it is here because the settings name it."""
        return self.added_by == SETTINGS

    @property
    def may_begin_anew(self) -> bool:
        """Return whether it may be added once more: it was let go, or could not be used."""
        return self.state is State.RETIRED or (self.state is State.CANDIDATE and bool(self.fault))


class NewVersion(Struct, frozen=True, kw_only=True):
    """An encoder that was loaded and tried, to be added."""

    version: str
    name: str
    directory: str
    dims: int
    history: PooledHistory | None = None
    metrics: dict[str, Any] = {}


class Made(Struct, frozen=True, kw_only=True):
    """How many vectors a version has, of how many."""

    version: str
    posts: int
    members: int
    posts_in_all: int
    members_in_all: int


class EncoderVersions:
    """Reads and changes the table of encoders."""

    def __init__(self, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock

    async def all(self) -> list[EncoderVersion]:
        """Return every encoder, the newest first."""
        async with self._router.read() as session:
            return await _all(session)

    async def serving(self) -> EncoderVersion | None:
        """Return the one that serves; None before the first one was ever loaded."""
        return next((one for one in await self.all() if one.state is State.SERVING), None)

    async def made(self) -> dict[str, Made]:
        """Return how far each one is. Counts every vector."""
        async with self._router.read() as session:
            rows = await session.rows(QUERIES["vectors_by_version"], Made)
        return {row.version: row for row in rows}

    async def add(self, new: NewVersion, by: str) -> EncoderVersion:
        """Add an encoder: it is embedded beside the one that serves.

        Raises:
            ConflictError: the same model is there already, or its name is another's.

        Passes on:
            InvalidError: the name cannot be one.
        """
        _check_name(new.name)
        async with self._router.write() as session:
            known = await _locked(session)
            for one in known:
                if one.version == new.version and not one.may_begin_anew:
                    raise ConflictError(
                        f"the model at {new.directory} is here already, as {one.name!r}, and "
                        f"{one.state}",
                        field="name",
                        value=one.name,
                        next_step=f"see: millrace models list, or: millrace models promote {one.name}",
                    )
                if one.name == new.name and one.version != new.version:
                    raise ConflictError(
                        f"the name {new.name!r} is that of version {one.version}",
                        field="name",
                        value=new.name,
                        next_step="choose another with --name",
                    )
            await self._insert(session, new, State.CANDIDATE, by)
            return named(await _all(session), new.version)

    async def propose(self, new: NewVersion) -> None:
        """Note the encoder of the settings: the first one serves, another is embedded beside it.

        It then serves as soon as it is ready, unless a person chose the one that serves.
        """
        async with self._router.write() as session:
            known = await _locked(session)
            mine = next((one for one in known if one.version == new.version), None)
            if mine is not None and not mine.may_begin_anew:
                return
            first = all(one.state is not State.SERVING for one in known)
            taken = {one.name for one in known if one.version != new.version}
            free = (new.name, f"{new.name}-{new.version[:8]}", f"{new.name}-{new.version}")
            name = next(name for name in free if name not in taken)
            state = State.SERVING if first else State.CANDIDATE
            await self._insert(session, _called(new, name), state, SETTINGS)

    async def take_up(self, version: str) -> bool:
        """Note that a candidate is being embedded; return whether it was one."""
        return await self._moved(version, State.CANDIDATE, State.EMBEDDING)

    async def finish(self, version: str) -> bool:
        """Note that everything is embedded; return whether that was news.

        One that the settings name serves then, in place of one that nobody chose or that is broken.
        """
        if not await self._moved(version, State.EMBEDDING, State.READY):
            return False
        async with self._router.write() as session:
            known = await _locked(session)
            mine = named(known, version)
            serving = next((one for one in known if one.state is State.SERVING), None)
            replaced = serving is None or bool(serving.fault) or not serving.chosen
            if mine.of_settings and mine.state is State.READY and replaced:
                await self._serve(session, known, mine, SETTINGS)
        return True

    async def blame(self, version: str, fault: str) -> None:
        """Note why an encoder cannot be used: it is a candidate that nobody takes up.

        One that serves by now, or was retired, is left as it is.
        """
        async with self._router.write() as session:
            await _locked(session)
            await self._fault(session, version, (State.CANDIDATE, *UNDER_WAY), fault)

    async def fall_back(self, broken: str, other: str, fault: str) -> bool:
        """Let another encoder serve, where it is ready, because one cannot be loaded any more.

        Returns whether that one serves no more. Where it does, the reason is noted, and its vectors
        serve on.
        """
        async with self._router.write() as session:
            known = {one.version: one for one in await _locked(session)}
            if known[broken].state is not State.SERVING:
                return True
            ready = other in known and known[other].state is State.READY
            if ready:
                await self._move(session, known[broken], State.CANDIDATE, EMBEDDING)
                await self._move(session, known[other], State.SERVING, EMBEDDING)
            now = State.CANDIDATE if ready else State.SERVING
            await self._fault(session, broken, (now,), fault, now)
        return ready

    async def promote(self, name: str, by: str, *, instead_of: str = "") -> EncoderVersion:
        """Make a ready encoder serve; the one that served stays ready.

        Args:
            name: of the encoder, or its version.
            by: who does it.
            instead_of: the version that it was found to be better than; empty for any.

        Raises:
            ConflictError: it serves already, or is not ready, or another than `instead_of` serves.

        Passes on:
            NotFoundError: there is no such encoder.
        """
        async with self._router.write() as session:
            known = await _locked(session)
            other = named(known, name)
            if other.state is not State.READY:
                raise ConflictError(
                    f"encoder {other.name!r} is {other.state}, and only a ready one can serve",
                    field="state",
                    value=other.state.value,
                    limit=State.READY.value,
                    next_step="see how far it is: millrace models list",
                )
            serving = next((one.version for one in known if one.state is State.SERVING), "")
            if instead_of not in ("", serving):
                raise ConflictError(
                    f"encoder {other.name!r} was compared with {instead_of}, and {serving} serves",
                    field="instead_of",
                    value=instead_of,
                    limit=serving,
                    next_step="compare it with the one that serves: millrace models compare",
                )
            return await self._serve(session, known, other, by, chosen=True)

    async def rollback(self, by: str) -> EncoderVersion:
        """Make the encoder serve that served before this one.

        Raises:
            ConflictError: none that served before is still there.
        """
        async with self._router.write() as session:
            known = await _locked(session)
            before = [one for one in known if one.state is State.READY and one.served_at]
            if not before:
                raise ConflictError(
                    "no encoder that served before is still there",
                    limit="one that served and is not retired",
                    next_step="see: millrace models list",
                )
            return await self._serve(session, known, max(before, key=_served_at), by, chosen=True)

    async def retire(self, name: str, by: str) -> EncoderVersion:
        """Let an encoder go, with its vectors.

        Raises:
            ConflictError: it serves.

        Passes on:
            NotFoundError: there is no such encoder.
        """
        async with self._router.write() as session:
            found = named(await _locked(session), name)
            if found.state is State.SERVING:
                raise ConflictError(
                    f"encoder {found.name!r} serves",
                    field="state",
                    value=found.state.value,
                    next_step="promote another one first: millrace models promote NAME",
                )
            await self._move(session, found, State.RETIRED, by)
            return named(await _all(session), found.version)

    async def drop_retired(self, limit: int) -> int:
        """Drop some vectors of encoders that were retired a while ago; return how many."""
        dropped, before = 0, self.served_nowhere_since()
        for query in ("drop_vectors_of_posts", "drop_vectors_of_members", "drop_averages"):
            async with self._router.write() as session:
                dropped += await session.run(QUERIES[query], limit=limit, before=before)
        return dropped

    def served_nowhere_since(self) -> datetime:
        """Return the moment up to which an encoder must have been retired for its vectors to go.

        A server changes over when the other index is full, and serves with the old vectors until
        then; a person may retire that encoder in between.
        """
        return self._clock.now() - timedelta(seconds=RETIRED_SECONDS)

    async def _serve(
        self,
        session: Session,
        known: Sequence[EncoderVersion],
        other: EncoderVersion,
        by: str,
        *,
        chosen: bool = False,
    ) -> EncoderVersion:
        for one in known:
            if one.state is State.SERVING:
                await self._move(session, one, State.READY, by)
        await self._move(session, other, State.SERVING, by, chosen=chosen)
        return named(await _all(session), other.version)

    async def _insert(self, session: Session, new: NewVersion, state: State, by: str) -> None:
        await session.run(
            QUERIES["insert_encoder_version"],
            version=new.version,
            name=new.name,
            directory=new.directory,
            dims=new.dims,
            state=state.value,
            chosen=False,
            history=None if new.history is None else document(new.history),
            metrics=document(new.metrics),
            by=by,
            now=self._clock.now(),
        )

    async def _moved(self, version: str, before: State, state: State) -> bool:
        async with self._router.write() as session:
            await _locked(session)  # whoever has read a state and is about to act on it goes first
            touched = await session.run(
                QUERIES["move_encoder_version"],
                version=version,
                before=before.value,
                state=state.value,
                chosen=False,
                by=EMBEDDING,
                now=self._clock.now(),
            )
        return bool(touched)

    async def _move(
        self,
        session: Session,
        one: EncoderVersion,
        state: State,
        by: str,
        *,
        chosen: bool = False,
    ) -> None:
        touched = await session.run(
            QUERIES["move_encoder_version"],
            version=one.version,
            before=one.state.value,
            state=state.value,
            chosen=chosen,
            by=by,
            now=self._clock.now(),
        )
        assert touched == 1, f"encoder {one.version} was {one.state} a moment ago, under the lock"

    async def _fault(
        self,
        session: Session,
        version: str,
        before: Sequence[State],
        fault: str,
        state: State = State.CANDIDATE,
    ) -> None:
        await session.run(
            QUERIES["blame_encoder_version"],
            version=version,
            before=[one.value for one in before],
            state=state.value,
            fault=fault[:FAULT_CHARACTERS_MAX],
            now=self._clock.now(),
        )


def named(known: Sequence[EncoderVersion], name: str) -> EncoderVersion:
    """Return the encoder of a name, or of a version.

    Raises:
        NotFoundError: there is none.
    """
    for one in known:
        if name in (one.name, one.version):
            return one
    raise NotFoundError(
        f"there is no encoder {name!r}",
        field="name",
        value=name,
        limit=f"one of {', '.join(one.name for one in known) or 'none yet'}",
        next_step="see: millrace models list, or add it: millrace models add DIR",
    )


async def _all(session: Session) -> list[EncoderVersion]:
    return await session.rows(QUERIES["encoder_versions"], EncoderVersion)


async def _locked(session: Session) -> list[EncoderVersion]:
    """Return every encoder, and keep others from changing what serves until this is over."""
    await session.value(QUERIES["lock_encoder_versions"])
    return await _all(session)


def _served_at(one: EncoderVersion) -> datetime:
    assert one.served_at is not None, "it served before"
    return one.served_at


def _called(new: NewVersion, name: str) -> NewVersion:
    return NewVersion(
        version=new.version,
        name=name,
        directory=new.directory,
        dims=new.dims,
        history=new.history,
        metrics=new.metrics,
    )


def _check_name(name: str) -> None:
    """Check the name of a new encoder.

    Passes on:
        InvalidError: it cannot be one.
    """
    if not name.strip() or len(name) > NAME_CHARACTERS_MAX:
        _refuse_name(name, f"1 to {NAME_CHARACTERS_MAX} characters")
    if name in (NEWEST, PACKAGED):
        _refuse_name(name, "not a word that flags use")


def _refuse_name(name: str, limit: str) -> NoReturn:
    """Say that a name cannot be one.

    Raises:
        InvalidError: always.
    """
    raise InvalidError(
        f"{name[:NAME_CHARACTERS_MAX]!r} cannot name an encoder",
        field="name",
        value=name,
        limit=limit,
        next_step="choose another with --name",
    )
