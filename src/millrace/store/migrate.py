"""Forward-only migrations from package data.

A file is `NNNN_name.pre.sql` (before the new code runs; old code keeps working) or
`NNNN_name.post.sql` (after the last old process is gone). Applied files never change: the
fingerprint of each is kept and compared.
"""

from collections.abc import Sequence
from importlib import resources
from typing import LiteralString, cast

from msgspec import Struct

from millrace.kernel.errors import MillraceError, SetupError, UnavailableError
from millrace.kernel.hashing import fingerprint
from millrace.store.queries import Query, load
from millrace.store.router import Router
from millrace.store.session import Session

QUERIES = load("millrace.store")


class Migration(Struct, frozen=True):
    """One step of the schema."""

    name: str
    fingerprint: str
    text: str


class _Applied(Struct, frozen=True):
    name: str
    fingerprint: str


def known() -> list[Migration]:
    """Return the migrations of this release in order."""
    folder = resources.files("millrace.schema") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    texts = [(f.name.removesuffix(".sql"), f.read_text(encoding="utf-8")) for f in files]
    return [Migration(name, fingerprint(text.encode()), text) for name, text in texts]


async def migrate(router: Router, steps: Sequence[Migration] | None = None) -> list[str]:
    """Bring the database to this release in one transaction; return the names that ran.

    A database that a newer release migrated, and an applied file that has changed, are a
    SetupError; so is a migration that fails, and then nothing of it is kept.

    Args:
        router: writes to the database.
        steps: other migrations than those of this release; for tests.
    """
    ours = {step.name: step for step in (known() if steps is None else steps)}
    async with router.write() as session:
        await session.run(QUERIES["patience"])
        await session.value(QUERIES["lock_migrations"])
        await session.run(QUERIES["create_migration_table"])
        applied = {
            line.name: line for line in await session.rows(QUERIES["applied_migrations"], _Applied)
        }
        for name, line in applied.items():
            _check(ours.get(name), line)
        waiting = [step for name, step in sorted(ours.items()) if name not in applied]
        for step in waiting:
            await _apply(session, step)
    return [step.name for step in waiting]


async def _apply(session: Session, step: Migration) -> None:
    """Run one migration and remember it.

    Raises:
        SetupError: it does not run on this database; names it.
        UnavailableError: the database went away; the next start tries again.
    """
    try:
        # The text is our own package data.
        await session.script(Query(step.name, "", cast(LiteralString, step.text)))
    except UnavailableError:
        raise
    except MillraceError as exc:
        raise SetupError(
            f"migration {step.name!r} failed, and nothing of it was kept: {exc.message}",
            next_step=exc.next_step,
        ) from exc
    await session.run(QUERIES["record_migration"], name=step.name, fingerprint=step.fingerprint)


def _check(ours: Migration | None, applied: _Applied) -> None:
    """Refuse a database that this release would misunderstand.

    Raises:
        SetupError: a newer release migrated it, or an applied file was changed.
    """
    if ours is None:
        raise SetupError(
            f"the database has migration {applied.name!r}, which this release does not know",
            next_step="run the newer release of millrace that made it",
        )
    if ours.fingerprint != applied.fingerprint:
        raise SetupError(
            f"migration {applied.name!r} was changed after it was applied",
            value=ours.fingerprint,
            limit=applied.fingerprint,
            next_step="restore the file; put the change in a new migration",
        )
