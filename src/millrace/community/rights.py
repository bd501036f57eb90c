"""Who may do what: the questions that several nouns ask."""

from millrace.community import validator
from millrace.community.types import REASON_MAX, Key, Role, Viewer
from millrace.kernel.errors import ForbiddenError, InvalidError


def author_of(viewer: Viewer, what: str) -> Key:
    """Return the member who acts.

    Raises:
        ForbiddenError: the viewer is not a member.
    """
    if viewer.member is None:
        raise ForbiddenError(
            f"{viewer.name} is not a member and may not {what}",
            value=viewer.role.value,
            limit="a member",
            next_step="sign in as a member",
        )
    return viewer.member


def moderates(viewer: Viewer, community_id: int) -> bool:
    """Return whether the viewer keeps order in that community."""
    home = viewer.member
    at_home = home is not None and home.community_id == community_id
    return viewer.oversees or (viewer.role is Role.MODERATOR and at_home)


def reasoned(viewer: Viewer, owner: Key, reason: str) -> str:
    """Return the reason for a removal, cleaned. What is one's own goes without one.

    Raises:
        InvalidError: somebody else's goes, and nobody says why.

    Passes on:
        InvalidError: the reason is too long or cannot be stored.
    """
    text = validator.prose("reason", reason, REASON_MAX)
    if text or viewer.member == owner:
        return text
    raise InvalidError(
        "what is somebody else's is not removed without a reason",
        field="reason",
        value="",
        limit=f"1 to {REASON_MAX} characters",
        next_step="say why: it is kept with the removal",
    )
