"""What the API reads about flags and rings. A reason is kept in a trail that nobody can change."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct

from millrace.api.wire import NumberText
from millrace.release.flags.book import FLAGS_MAX
from millrace.release.flags.types import KEY_MAX, REASON_MAX

Reason = Annotated[str, Meta(min_length=1, max_length=REASON_MAX)]
Track = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Count = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
Moment = Annotated[datetime, Meta(tz=True)]


class WaitNew(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That a version is used by a share of those who are active in a market."""

    track: Track
    version: Annotated[str, Meta(max_length=40)]
    share: Annotated[float, Meta(ge=0, le=1)]
    country: Annotated[str, Meta(pattern=r"^([A-Z]{2})?$")] = ""
    community_id: NumberText | None = None


class FlagPut(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A definition in flagd's JSON, kept as it is written.

    owner: whose the flag is from then on; left out, it stays.
    due_at, wait: not before that time, not before that adoption.
    """

    definition: Raw
    reason: Reason
    owner: Annotated[str, Meta(max_length=200)] | None = None
    due_at: Moment | None = None
    wait: WaitNew | None = None


class FlagLook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A definition to look at; nothing is written."""

    definition: Raw


class FlagReason(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a flag is killed, revived or removed."""

    reason: Reason


class FlagRamp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which share of members a variant reaches."""

    variant: Annotated[str, Meta(min_length=1, max_length=200)]
    percentage: Annotated[float, Meta(ge=0, le=100)]
    reason: Reason


class FlagRevert(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version to go back to."""

    to_version: Annotated[int, Meta(ge=1, le=(1 << 31) - 1)]
    reason: Reason


class ScanPut(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a search of code found. files: how many were read.

    places: for each flag that was looked for, how many places name it; 0 for none.
    """

    scanned_at: Moment
    files: Count
    places: Annotated[
        dict[Annotated[str, Meta(max_length=KEY_MAX)], Count], Meta(max_length=FLAGS_MAX)
    ]


class FlagImport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole document as flagd reads it. Flags that it does not name stay."""

    document: Raw
    reason: Reason


class Decision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said with a decision about a request."""

    note: Annotated[str, Meta(max_length=REASON_MAX)] = ""


class EntryPut(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a member is in a ring by name."""

    reason: Reason


class RulePut(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who else is in a ring: by an attribute, and by a share of all. Both empty takes it away."""

    attribute: Annotated[str, Meta(max_length=200)] = ""
    values: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=1000)] = []
    percentage: Annotated[float, Meta(ge=0, le=100)] = 0.0
    reason: Reason


class RingChoice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a member wants of a ring."""

    choice: Literal["opted_in", "opted_out"]
