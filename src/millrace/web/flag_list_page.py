"""The list of flags: what each gives, whose it is, when it was last asked for."""

from asyncio import gather
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

from litestar import Response, get
from litestar.params import QueryParameter
from msgspec import Struct
from msgspec.structs import replace

from millrace.release.flags import stale
from millrace.release.flags.types import Flag
from millrace.web.asked import Asked, page, program_of, wants_fragment
from millrace.web.cases import query_of
from millrace.web.flag_asked import (
    COUNTS_AT_ONCE_MAX,
    communities_by_number,
    every_flag,
    flags_of,
    members_in_all,
    open_requests,
)
from millrace.web.flag_crowds import crowd_view
from millrace.web.flag_forms import object_of
from millrace.web.flag_views import FlagLine, flag_line, life_of, stale_marks
from millrace.web.shell import drawn, renderer, shell_for

LIST_SIZE = 30
SHOWS = (
    ("", "All"),
    ("on", "On"),
    ("killed", "Killed"),
    ("stale", "Stale"),
    ("never", "Never evaluated"),
)
DONE = {"removed": "Removed. Its history stays."}
Text = Annotated[str, QueryParameter(max_length=200)]


class FlagFilter(Struct, frozen=True, kw_only=True):
    """What of the list is asked for."""

    q: str = ""
    owner: str = ""
    show: str = ""
    shows: tuple[tuple[str, str], ...] = SHOWS

    @property
    def filtered(self) -> bool:
        """Whether anything is left out."""
        return bool(self.q or self.owner or self.show)

    def fits(self, line: FlagLine) -> bool:
        """Whether a flag is asked for."""
        words = f"{line.key} {line.description}".lower()
        return (
            all(word in words for word in self.q.lower().split())
            and (not self.owner or line.owner.lower() == self.owner.lower())
            and self._shows(line)
        )

    def _shows(self, line: FlagLine) -> bool:
        match self.show:
            case "on":
                return line.on
            case "killed":
                return not line.on
            case "stale":
                return bool(line.stale)
            case "never":
                return line.evaluated is None
            case _:
                return True


@get("/flags", include_in_schema=False)
async def show_flags(request: Asked, show: Text = "", after: Text = "") -> Response[str]:
    """Show the flags by key; with `count`, also how many members each one gives what."""
    asked = request.query_params
    count, done = asked.get("count", ""), asked.get("done", "")
    form = FlagFilter(q=asked.get("q", "").strip(), owner=asked.get("owner", "").strip(), show=show)
    shell, found, used, waiting = await gather(
        shell_for(request, "flags"),
        every_flag(request),
        flags_of(request).last_evaluated(),
        open_requests(request),
    )
    lines = _lines(request, found, used)
    fitting = [line for line in lines if form.fits(line) and line.key > after]
    shown = fitting[:LIST_SIZE]
    if count:
        shown = await _counted(request, found, shown)
    if wants_fragment(request):
        return page(renderer().text("_flag_lines.html", lines=shown))
    address = query_of(q=form.q, owner=form.owner, show=form.show, after=after, count="1")
    return drawn(
        "flags.html",
        shell,
        form=form,
        lines=shown,
        owners=sorted({line.owner for line in lines if line.owner}),
        facts=_facts(form, lines, [line for line in lines if form.fits(line)]),
        counted=bool(count),
        count_address=f"/flags{address}",
        cheap=len(shown) * await members_in_all(request) <= COUNTS_AT_ONCE_MAX,
        more=_more(form, fitting, count),
        waiting=len(waiting),
        done=DONE.get(done, ""),
    )


def _lines(request: Asked, found: Sequence[Flag], used: Mapping[str, datetime]) -> list[FlagLine]:
    """Show every flag. `used`: when each was last evaluated."""
    now, days = program_of(request).clock.now(), program_of(request).settings.flags.stale_days
    needed = stale.dependents({flag.key: object_of(flag.content) or {} for flag in found})
    lines: list[FlagLine] = []
    for flag in found:
        life = life_of(flag, used.get(flag.key), needed)
        marks = stale_marks(stale.findings(life, now, days))
        lines.append(flag_line(flag, now, used.get(flag.key), marks))
    return lines


async def _counted(
    request: Asked, found: Sequence[Flag], lines: Sequence[FlagLine]
) -> list[FlagLine]:
    """Count who gets each of these flags now, with one look at every member."""
    texts = {flag.key: flag.content for flag in found}
    names = await communities_by_number(request)
    audiences = await flags_of(request).audiences([line.key for line in lines])
    return [
        replace(line, crowd=crowd_view(audiences[line.key], texts[line.key], names))
        for line in lines
    ]


def _facts(form: FlagFilter, lines: Sequence[FlagLine], fitting: Sequence[FlagLine]) -> str:
    killed = sum(1 for line in lines if not line.on)
    marked = sum(1 for line in lines if line.stale)
    if form.filtered:
        return f"{len(fitting)} of {len(lines)} flags."
    noun = "flag" if len(lines) == 1 else "flags"
    return f"{len(lines)} {noun}, {killed} killed, {marked} stale."


def _more(form: FlagFilter, fitting: Sequence[FlagLine], count: str) -> str:
    if len(fitting) <= LIST_SIZE:
        return ""
    after = fitting[LIST_SIZE - 1].key
    return "/flags" + query_of(q=form.q, owner=form.owner, show=form.show, after=after, count=count)
