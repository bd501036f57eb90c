"""The queries of flags, and what they need beside the nouns."""

from datetime import datetime

from msgspec import Struct

from millrace.community.types import Key
from millrace.release.flags.types import Choice, Ring, RingEntry
from millrace.store.queries import load

QUERIES = load("millrace.release.flags")

EVALUATORS = "$evaluators"
METADATA = "$metadata"
SHARED = (EVALUATORS, METADATA)
"""What all flags share; kept, versioned and reviewed as flags are, under keys no flag can have."""


class EntryRow(Struct, frozen=True):
    """A ring entry as a row."""

    community_id: int
    member_id: int
    track: str
    ring: str
    choice: str
    actor: str
    chosen_at: datetime

    def entry(self) -> RingEntry:
        """Return it as the noun."""
        return RingEntry(
            track=self.track,
            ring=Ring(self.ring),
            member=Key(self.community_id, self.member_id),
            choice=Choice(self.choice),
            actor=self.actor,
            at=self.chosen_at,
        )
