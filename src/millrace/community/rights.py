"""Who may do what: the questions that several nouns ask."""

from millrace.community.types import Key, Role, Viewer
from millrace.kernel.errors import ForbiddenError


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
