"""Tokens, signing keys and operators."""

from typing import Any

from litestar import Response, delete, get, post
from litestar.params import FromPath, FromQuery

from millrace.api import bodies, wire
from millrace.api.asked import Asked, program_of, read, viewer_of
from millrace.api.auth import token_of
from millrace.community.types import Role, parse_key
from millrace.kernel.errors import ForbiddenError

TAGS = ["identity"]


@post("/v1/tokens", summary="Issue a token for a member", tags=TAGS)
async def issue_token(request: Asked) -> wire.Token:
    """Issue a token for a member; it is shown this once."""
    program = program_of(request)
    form = await read(request, bodies.TokenNew)
    member = await program.members.get(viewer_of(request), parse_key(form.member_id, "member_id"))
    issued = await program.identity.issue(f"member:{member.key}", form.seconds)
    return wire.Token(token=issued.token, token_id=issued.token_id, expires_at=issued.expires_at)


@delete("/v1/tokens/{token_id:str}", summary="Revoke a token", tags=TAGS)
async def revoke_token(
    request: Asked, token_id: FromPath[str], reason: FromQuery[str] = ""
) -> None:
    """Revoke a token: an operator any, anybody else the one that the request carries.

    Raises:
        ForbiddenError: it is another token than the caller's own.
    """
    identity, viewer = program_of(request).identity, viewer_of(request)
    own = token_id == await identity.token_id(token_of(request.headers) or "")
    if not (own or viewer.oversees):
        raise ForbiddenError(
            f"{viewer.name} may only revoke the token that the request carries",
            field="token_id",
            value=token_id,
            limit="the own token",
            next_step="send the token to revoke as the bearer token",
        )
    await identity.revoke(token_id, viewer.name, reason, subject=viewer.name if own else "")


@post("/v1/keys/rotate", summary="Rotate the signing key", tags=TAGS)
async def rotate_key(request: Asked) -> wire.KeyRotated:
    """Sign with a new key from now on; tokens of the old one hold until they expire."""
    return wire.KeyRotated(key_id=await program_of(request).identity.rotate())


@post("/v1/operators", summary="Create an operator, a release manager or a flag reader", tags=TAGS)
async def create_operator(request: Asked) -> wire.Token:
    """Create an account that runs the installation; its token is shown this once."""
    form = await read(request, bodies.OperatorNew)
    issued = await program_of(request).identity.create_operator(form.name, Role(form.role))
    return wire.Token(token=issued.token, token_id=issued.token_id, expires_at=issued.expires_at)


@get("/.well-known/jwks.json", summary="The public keys", tags=TAGS)
async def get_keys(request: Asked) -> Response[dict[str, Any]]:
    """Tell the public keys that verify our tokens."""
    return Response(
        await program_of(request).identity.jwks(), headers={"cache-control": "public, max-age=60"}
    )


HANDLERS = [issue_token, revoke_token, rotate_key, create_operator, get_keys]
