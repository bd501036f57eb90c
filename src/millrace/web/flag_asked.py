"""What the pages of flags and rings have in common: the room, who acts, and what waits."""

from msgspec import Struct

from millrace.community.types import Member, program
from millrace.kernel.errors import MillraceError
from millrace.release.flags.book import LIST_MAX
from millrace.release.flags.room import Flags
from millrace.release.flags.types import (
    OPEN_STATES,
    REASON_MAX,
    Actor,
    Approval,
    ChangeRequest,
    Problem,
)
from millrace.web.asked import Asked, Form, program_of, viewer_of
from millrace.web.forms import field_of, said

COUNTS_AT_ONCE_MAX = 300_000  # members times flags that are counted without being asked to: seconds
SEER = program("flags")  # a release manager counts by community, and is a member of none


class ActForm(Struct, frozen=True, kw_only=True):
    """What was typed at a button of a flag, and what is wrong with it.

    act: what the button does, such as `kill`; empty where nothing was refused.
    variant, percentage: of a ramp. to: the version that a revert goes back to.
    """

    act: str = ""
    variant: str = ""
    percentage: str = ""
    to: str = ""
    reason: str = ""
    error: str = ""
    field: str = ""
    reason_max: int = REASON_MAX

    def at(self, *acts: str) -> "ActForm":
        """Return what was typed at one of these buttons; an empty form where it was another."""
        return self if self.act in acts else ActForm()


def flags_of(request: Asked) -> Flags:
    """Return the room of flags."""
    return program_of(request).flags


def doer_of(request: Asked) -> Actor:
    """Return who acts, as every trail names them."""
    return Actor(viewer_of(request).name)


def refused_act(act: str, form: Form, error: MillraceError) -> ActForm:
    """Return a press as it was sent, with what is wrong."""
    return ActForm(
        act=act,
        variant=form.text("variant"),
        percentage=form.text("percentage"),
        to=form.text("to"),
        reason=form.text("reason"),
        error=said(error),
        field=field_of(error),
    )


async def open_requests(request: Asked, key: str) -> list[ChangeRequest]:
    """Return all changes of a flag that wait, newest first."""
    return await flags_of(request).requests(OPEN_STATES, key, LIST_MAX)


def four_eyes(request: Asked) -> bool:
    """Whether a change needs a second person."""
    return program_of(request).settings.flags.approval is Approval.REQUIRED


async def communities_by_number(request: Asked) -> dict[str, str]:
    """Return the names of all communities by their numbers, as contexts have them."""
    found = await program_of(request).communities.list(SEER)
    return {str(one.community_id): one.name for one in found}


async def members_in_all(request: Asked) -> int:
    """Return how many members there are, from the counters: what a count over all would cost."""
    sizes = await program_of(request).communities.sizes(SEER)
    return sum(one.members for one in sizes.values())


async def member_called(request: Asked, name: str) -> Member:
    """Return the member with this id, handle or external id.

    Passes on:
        NotFoundError: there is none.
        ConflictError: there are several; names their ids.
    """
    return await program_of(request).members.find(name)


async def problems_of(request: Asked, key: str, content: str) -> list[Problem]:
    """Return what is wrong with a definition among all that stand, grave or not."""
    return await flags_of(request).problems(key, content)
