"""Which flags may go, and what scans of code say of that."""

from typing import Annotated
from urllib.parse import quote, unquote

from litestar import delete, get, put
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter

from millrace.api import bodies_flags, wire, wire_flags
from millrace.api.asked import Asked, program_of, read
from millrace.api.flags import TAGS, by_whom, flags_of
from millrace.api.paging import PageAsked, cursor_at, page_asked, place_in
from millrace.release.flags.types import Scan

SCAN = "/v1/flag-scans/{repository:str}"
Days = Annotated[int | None, QueryParameter(ge=1, le=3_650)]


@get(
    "/v1/flag-findings",
    summary="Which flags may go, and why",
    tags=TAGS,
    dependencies={"page": Provide(page_asked, sync_to_thread=False)},
)
async def list_findings(
    request: Asked, page: NamedDependency[PageAsked], days: Days = None
) -> wire.Page[wire_flags.FlagFinding]:
    """List reasons why flags may go, by key: never asked for, the same for everyone, in no code.

    Younger flags than `days`, or than the setting `flags.stale_days`, are left alone. That no code
    names a flag is only told where the newest scan of every repository looked for it.
    """
    program = program_of(request)
    listed = f"flag_findings:{days}"
    place = place_in(program.secret, listed, page.cursor) or ""
    behind = [unquote(part) for part in place.split(" ")] if place else []
    found = sorted(await program.flags.findings(days), key=lambda one: (one.key, one.kind))
    rest = [one for one in found if [one.key, one.kind] > behind]
    shown = rest[: page.limit]
    following = ""
    if len(rest) > len(shown):
        last = f"{quote(shown[-1].key, safe='')} {shown[-1].kind}"
        following = cursor_at(program.secret, listed, last)
    return wire.Page([wire_flags.finding(one) for one in shown], following)


@get("/v1/flag-scans", summary="Which code was searched for flags", tags=TAGS)
async def list_scans(request: Asked) -> wire_flags.FlagScans:
    """List the newest scan of each repository: how old it is, and who sent it."""
    found = await flags_of(request).scans.lines()
    return wire_flags.FlagScans(items=[wire_flags.scan(one) for one in found])


@put(SCAN, summary="Tell where code names flags", tags=TAGS, status_code=200)
async def put_scan(request: Asked, repository: FromPath[str]) -> wire_flags.FlagScan:
    """Keep what a search of a repository found; where a newer one is kept, that is the answer.

    The same again changes nothing. Keys that no flag has are left out.
    """
    form = await read(request, bodies_flags.ScanPut)
    scan = Scan(repository=repository, at=form.scanned_at, files=form.files, places=form.places)
    return wire_flags.scan(await flags_of(request).scans.put(scan, by_whom(request)))


@delete(SCAN, summary="Forget the scan of a repository", tags=TAGS)
async def remove_scan(request: Asked, repository: FromPath[str]) -> None:
    """Forget a repository that is not searched any more, so that it keeps no flag."""
    await flags_of(request).scans.remove(repository, by_whom(request))


HANDLERS = [list_findings, list_scans, put_scan, remove_scan]
