"""What a process elsewhere needs to decide as this one does: definitions, rings and markets.

It travels as JSON. Definitions are the very text that is stored, so that both compile the same.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

import msgspec
from msgspec import Raw, Struct

from millrace.community.types import parse_key
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.rings import RingBook
from millrace.release.flags.types import Choice, Ring, RingEntry, RingRule

EMPTY = "{}"


class CopiedEntry(Struct, frozen=True, kw_only=True):
    """A ring entry on its way; who wrote it stays at home."""

    track: str
    ring: Ring
    member: str
    choice: Choice
    at: datetime


class CopiedRule(Struct, frozen=True, kw_only=True):
    """A rule of a ring on its way."""

    track: str
    ring: Ring
    attribute: str
    values: tuple[str, ...]
    percentage: float


class FlagSnapshot(Struct, frozen=True, kw_only=True):
    """Everything that decides, at one moment.

    etag: changes with any of it. flags: definitions by key. countries: by community, empty where
    nobody said.
    """

    etag: str
    flags: dict[str, Raw]
    evaluators: Raw
    metadata: Raw
    ring_entries: list[CopiedEntry]
    ring_rules: list[CopiedRule]
    countries: dict[int, str]


class Known(Struct, frozen=True, kw_only=True):
    """A snapshot that is ready to decide."""

    etag: str
    texts: Mapping[str, str]
    shared: tuple[str, str]
    flagset: FlagSet
    rings: RingBook
    countries: Mapping[int, str]


NOTHING = Known(
    etag="",
    texts={},
    shared=(EMPTY, EMPTY),
    flagset=FlagSet.of({}),
    rings=RingBook([], []),
    countries={},
)


def taken(
    etag: str,
    texts: Mapping[str, str],
    entries: Collection[RingEntry],
    rules: Collection[RingRule],
    countries: Mapping[int, str],
) -> FlagSnapshot:
    """Take a snapshot of what is held; texts are by key, what flags share beside them."""
    return FlagSnapshot(
        etag=etag,
        flags={key: _raw(text) for key, text in texts.items() if not key.startswith("$")},
        evaluators=_raw(texts.get("$evaluators", EMPTY)),
        metadata=_raw(texts.get("$metadata", EMPTY)),
        ring_entries=[
            CopiedEntry(
                track=each.track,
                ring=each.ring,
                member=str(each.member),
                choice=each.choice,
                at=each.at,
            )
            for each in entries
        ],
        ring_rules=[
            CopiedRule(
                track=each.track,
                ring=each.ring,
                attribute=each.attribute,
                values=each.values,
                percentage=each.percentage,
            )
            for each in rules
        ],
        countries=dict(countries),
    )


def read(body: bytes, before: Known = NOTHING) -> Known:
    """Return what a body says, ready to decide; definitions that are the same stay compiled.

    A body of another form is a msgspec.MsgspecError or, where a member is none, an InvalidError.
    """
    found = msgspec.json.decode(body, type=FlagSnapshot)
    texts = {key: bytes(raw).decode() for key, raw in found.flags.items()}
    shared = bytes(found.evaluators).decode(), bytes(found.metadata).decode()
    if shared == before.shared:
        changes = {
            key: texts.get(key)
            for key in texts.keys() | before.texts.keys()
            if texts.get(key) != before.texts.get(key)
        }
        flagset = before.flagset.with_changes(changes)
    else:
        flagset = FlagSet.of(texts, *shared)
    return Known(
        etag=found.etag,
        texts=texts,
        shared=shared,
        flagset=flagset,
        rings=RingBook(map(_entry, found.ring_entries), map(_rule, found.ring_rules)),
        countries=found.countries,
    )


def changed(before: Known, after: Known) -> list[str] | None:
    """Return the flags whose definition differs; None where what all of them share does."""
    if before.shared != after.shared:
        return None
    keys = before.texts.keys() | after.texts.keys()
    found = sorted(key for key in keys if before.texts.get(key) != after.texts.get(key))
    return found or None  # then a ring or a market changed, and any flag may go by it


def _entry(copied: CopiedEntry) -> RingEntry:
    return RingEntry(
        track=copied.track,
        ring=copied.ring,
        member=parse_key(copied.member, "member"),
        choice=copied.choice,
        actor="",
        at=copied.at,
    )


def _rule(copied: CopiedRule) -> RingRule:
    return RingRule(
        track=copied.track,
        ring=copied.ring,
        attribute=copied.attribute,
        values=copied.values,
        percentage=copied.percentage,
    )


def _raw(text: str) -> Raw:
    return Raw(text.encode())
