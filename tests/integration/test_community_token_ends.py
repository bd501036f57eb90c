"""Goal: a token that was used a moment ago is refused by the next request after it ended."""

import psycopg
import pytest

from millrace.community.identity import Identity
from millrace.community.testing import OPERATOR, Rooms
from millrace.kernel.errors import BannedError, UnauthenticatedError

pytestmark = pytest.mark.services


@pytest.fixture
async def rooms(router):
    return Rooms(router)


@pytest.fixture
async def ann(rooms):
    return (await rooms.people(await rooms.community("home"), "ann"))[0]


@pytest.fixture
async def identity(rooms):
    return Identity(router=rooms.router, clock=rooms.clock)


BAN = """update member set banned_at = now(), banned_by = 'operator:ola', banned_reason = 'spam'
          where member_id = %(member)s"""


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("revoked", "the token was revoked"),
        ("removed", "was removed or disabled"),
        ("banned", "is banned since"),
        ("forgotten", "is not, or no longer, ours"),
        ("expired", "expired"),
    ],
)
async def test_a_token_in_use_ends_at_once(identity, rooms, ann, conninfo, ending, reason):
    """Nothing but the signature is remembered of a token: the next request after its end fails."""
    issued = await identity.issue(ann.name, 600)
    for _ in range(3):
        assert await identity.authenticate(issued.token) == ann
    match ending:
        case "revoked":
            await identity.revoke(issued.token_id, "operator:ola", "stolen")
        case "forgotten":
            await identity.rotate(forget=True)
        case "expired":
            rooms.clock.move(700)
        case "removed":
            await rooms.members.remove(OPERATOR, ann.member, "left")
        case _:
            with psycopg.connect(conninfo) as db:
                db.execute(BAN, {"member": ann.member.id})

    with pytest.raises((UnauthenticatedError, BannedError), match=reason):
        await identity.authenticate(issued.token)
