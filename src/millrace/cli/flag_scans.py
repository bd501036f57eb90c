"""`millrace flags scans`, and what of a search of code is sent: to this installation or a server."""

from datetime import datetime
from pathlib import Path

import click
import httpx
import msgspec
from msgspec import Struct

from millrace.cli.flag_desk import (
    acting,
    ago,
    given_token,
    row,
    show,
    table,
    token_option,
    worked,
)
from millrace.cli.frame import Frame, data_dir_option, json_option, pass_frame, print_json, say
from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import TooLargeError, UnauthenticatedError, UnavailableError
from millrace.release.flags import references
from millrace.release.flags.references import Found
from millrace.release.flags.types import Scan, ScanLine
from millrace.settings import TOKEN_VARIABLE
from millrace.wiring import Domain

SECONDS_MAX = 60.0
SAID_MAX = 500  # characters of what a server says


class Server(Struct, frozen=True):
    """A server elsewhere, and the token of who asks it."""

    address: str
    token: str


class _Keys(Struct):
    flags: dict[str, msgspec.Raw]


class _Problem(Struct):
    detail: str = ""


def server_of(address: str | None) -> Server | None:
    """Return the server that was named; None for this installation.

    Raises:
        UnauthenticatedError: there is no token for it.
    """
    if address is None:
        return None
    token = given_token()
    if not token:
        raise UnauthenticatedError(
            f"{address} is not asked without a token",
            field="token",
            limit="the token of an operator or a release manager",
            next_step=f"set {TOKEN_VARIABLE}, or name a --token-file",
        )
    return Server(address.rstrip("/"), token)


async def searched_here(domain: Domain, folder: Path, name: str | None) -> Found:
    """Search code for the flags of this installation, and keep what was found under a name."""
    at = domain.clock.now()
    found = references.search(folder, [flag.key for flag in await domain.flags.every()])
    if name is not None:
        await domain.flags.scans.put(scan_of(found, name, at), await acting(domain, proven=False))
    return found


async def searched_for(server: Server, folder: Path, name: str | None) -> Found:
    """Search code for the flags of a server elsewhere, and send it what was found under a name.

    Raises:
        UnavailableError: the server does not answer.

    Passes on:
        UnavailableError: it refuses; says what it says.
    """
    headers = {"authorization": f"Bearer {server.token}"}
    timeout = httpx.Timeout(SECONDS_MAX)
    try:
        async with httpx.AsyncClient(
            base_url=server.address, headers=headers, timeout=timeout
        ) as client:
            at = SystemClock().now()
            answer = await client.get("/v1/flag-document")
            keys = msgspec.json.decode(_good(answer).content, type=_Keys).flags
            found = references.search(folder, keys)
            if name is not None:
                scan = scan_of(found, name, at)
                body = {"scanned_at": scan.at, "files": scan.files, "places": scan.places}
                _good(
                    await client.put(
                        f"/v1/flag-scans/{scan.repository}",
                        content=msgspec.json.encode(body),
                        headers={"content-type": "application/json"},
                    )
                )
    except (httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError) as exc:
        raise UnavailableError(
            f"{server.address} does not answer: {str(exc)[:SAID_MAX] or type(exc).__name__}",
            field="server",
            value=server.address,
            next_step="check the address; nothing was sent, and the command can be given again",
        ) from exc
    return found


def scan_of(found: Found, name: str, at: datetime) -> Scan:
    """Return what is sent of a search.

    Raises:
        TooLargeError: the search stopped early, so that it knows of no flag that nobody names it.
    """
    if found.incomplete:
        raise TooLargeError(
            f"the search stopped early and was not sent: {found.incomplete}",
            field="folder",
            next_step="name a smaller folder, and each part by a name of its own",
        )
    return Scan(repository=name, at=at, files=found.files, places=found.counts)


def _good(answer: httpx.Response) -> httpx.Response:
    """Return an answer that is one.

    Raises:
        UnavailableError: it is a refusal; says which.
    """
    if answer.is_success:
        return answer
    try:
        said = msgspec.json.decode(answer.content, type=_Problem).detail
    except msgspec.MsgspecError:
        said = ""
    raise UnavailableError(
        f"the server refuses with {answer.status_code}: {said[:SAID_MAX] or answer.reason_phrase}",
        field="server",
        value=str(answer.request.url),
        next_step="check the address, and that the token is a release manager's and still good",
    )


@click.command(
    "scans",
    epilog="\b\nExamples:\n  millrace flags scans\n  millrace flags scans --forget old-shop\n",
)
@click.option("--forget", metavar="NAME", help="A repository that is not searched any more.")
@token_option
@data_dir_option
@json_option
@pass_frame
def scans(frame: Frame, forget: str | None, data_dir: str | None, as_json: bool) -> None:
    """Print which code was searched for flags.

    The newest scan of each repository, as `millrace flags references --send` kept it. Only where
    every repository was searched for a flag, and none names it, is it said to be in no code.
    """

    async def look(domain: Domain) -> tuple[list[ScanLine], datetime]:
        if forget is not None:
            await domain.flags.scans.remove(forget, await acting(domain, proven=False))
        return await domain.flags.scans.lines(), domain.clock.now()

    found, now = worked(frame, data_dir, as_json, look)
    if as_json:
        print_json({"scans": found})
        return
    made = table("repository", "searched", "files", "flags", "named by none of it", "by")
    for each in found:
        when, many = f"{ago(each.at, now)} ago", f"{each.files:,}"
        row(made, each.repository, when, many, f"{each.flags:,}", f"{each.unnamed:,}", each.actor)
    show(made)
    if not found:
        say("no code was searched; `millrace flags references DIR --send NAME` does")
