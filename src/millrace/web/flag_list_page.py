"""The list of flags: what each gives, whose it is, when it was last asked for."""

from asyncio import gather
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from litestar import Response, get
from litestar.params import QueryParameter
from msgspec import Struct
from msgspec.structs import replace

from millrace.release.flags import stale
from millrace.release.flags.lives import every_life
from millrace.release.flags.types import Flag, ScanLine, Seen
from millrace.web.asked import Asked, page, program_of, wants_fragment
from millrace.web.cases import query_of
from millrace.web.flag_asked import (
    COUNTS_AT_ONCE_MAX,
    communities_by_number,
    flags_of,
    members_in_all,
)
from millrace.web.flag_crowds import crowd_view
from millrace.web.flag_forms import description_of
from millrace.web.flag_places import with_places
from millrace.web.flag_views import FlagLine, StaleMark, by_whom, flag_line, is_enabled, stale_marks
from millrace.web.shell import drawn, renderer, shell_for

LIST_SIZE = 30
SCANS_SHOWN = 5
SHOWS = (
    ("", "All"),
    ("on", "On"),
    ("killed", "Killed"),
    ("stale", "Stale"),
    ("never", "Never evaluated"),
)
DONE = {"removed": "Removed. Its history stays."}
Text = Annotated[str, QueryParameter(max_length=200)]


class Held(Struct, frozen=True, kw_only=True):
    """A flag with what the filters look at."""

    flag: Flag
    definition: Mapping[str, Any]
    evaluated: datetime | None
    stale: list[StaleMark]


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

    def fits(self, held: Held) -> bool:
        """Whether a flag is asked for."""
        flag = held.flag
        words = f"{flag.key} {description_of(held.definition)}".lower()
        return (
            all(word in words for word in self.q.lower().split())
            and (not self.owner or flag.owner.lower() == self.owner.lower())
            and self._shows(held)
        )

    def _shows(self, held: Held) -> bool:
        match self.show:
            case "on":
                return is_enabled(held.definition)
            case "killed":
                return not is_enabled(held.definition)
            case "stale":
                return bool(held.stale)
            case "never":
                return held.evaluated is None
            case _:
                return True


@get("/flags", include_in_schema=False)
async def show_flags(request: Asked, show: Text = "", after: Text = "") -> Response[str]:
    """Show the flags by key; with `count`, also how many members each one gives what."""
    asked = request.query_params
    count, done = asked.get("count", ""), asked.get("done", "")
    form = FlagFilter(q=asked.get("q", "").strip(), owner=asked.get("owner", "").strip(), show=show)
    shell, found, used, waiting, names = await gather(
        shell_for(request, "flags"),
        flags_of(request).every(),
        flags_of(request).last_evaluated(),
        flags_of(request).waiting(),
        communities_by_number(request),
    )
    book = flags_of(request).scans
    seen, scans = await gather(book.seen(), book.lines())
    every = _held(request, found, used, seen)
    fitting = [held for held in every if form.fits(held)]
    rest = [held for held in fitting if held.flag.key > after]
    shown = await _lines(request, rest[:LIST_SIZE], names, counted=bool(count))
    if wants_fragment(request):
        return page(renderer().text("_flag_lines.html", lines=shown))
    address = query_of(q=form.q, owner=form.owner, show=form.show, after=after, count="1")
    return drawn(
        "flags.html",
        shell,
        form=form,
        lines=shown,
        owners=sorted({flag.owner for flag in found if flag.owner}),
        facts=_facts(form, every, fitting),
        counted=bool(count),
        count_address=f"/flags{address}",
        cheap=len(shown) * await members_in_all(request) <= COUNTS_AT_ONCE_MAX,
        more=_more(form, rest, count),
        waiting=waiting,
        scans=_scanned(scans, program_of(request).clock.now()),
        behind=bool(fitting),
        done=DONE.get(done, ""),
    )


def _held(
    request: Asked, found: Sequence[Flag], used: Mapping[str, datetime], seen: Mapping[str, Seen]
) -> list[Held]:
    """Look at every flag. `used`: when each was last evaluated; `seen`: where code names it."""
    now, days = program_of(request).clock.now(), program_of(request).settings.flags.stale_days
    return [
        Held(
            flag=flag,
            definition=life.definition,
            evaluated=used.get(flag.key),
            stale=stale_marks(stale.findings(life, now, days)),
        )
        for flag, life in zip(found, every_life(found, used, seen), strict=True)
    ]


def _scanned(scans: Sequence[ScanLine], now: datetime) -> list[str]:
    """Say of each repository how old its newest scan is, and who sent it; the oldest first."""
    lines = [
        f"{one.repository}, {one.files:,} {'file' if one.files == 1 else 'files'} searched "
        f"{stale.age(one.at, now)}, sent by {by_whom(one.actor)}"
        for one in sorted(scans, key=lambda one: one.at)
    ]
    more = len(lines) - SCANS_SHOWN
    return [*lines[:SCANS_SHOWN], f"and {more} newer ones"] if more > 0 else lines


async def _lines(
    request: Asked, shown: Sequence[Held], names: Mapping[str, str], *, counted: bool
) -> list[FlagLine]:
    """Show some flags; counted, with one look at every member."""
    now = program_of(request).clock.now()
    lines = [
        flag_line(held.flag, held.definition, now, held.evaluated, held.stale) for held in shown
    ]
    lines = [replace(line, gives=with_places(line.gives, names)) for line in lines]
    if not counted:
        return lines
    audiences = await flags_of(request).audiences([line.key for line in lines])
    return [
        replace(line, crowd=crowd_view(audiences[line.key], held.flag.content, names))
        for line, held in zip(lines, shown, strict=True)
    ]


def _facts(form: FlagFilter, every: Sequence[Held], fitting: Sequence[Held]) -> str:
    if form.filtered:
        return f"{len(fitting)} of {len(every)} flags."
    killed = sum(1 for held in every if not is_enabled(held.definition))
    marked = sum(1 for held in every if held.stale)
    noun = "flag" if len(every) == 1 else "flags"
    return f"{len(every)} {noun}, {killed} killed, {marked} stale."


def _more(form: FlagFilter, rest: Sequence[Held], count: str) -> str:
    if len(rest) <= LIST_SIZE:
        return ""
    after = rest[LIST_SIZE - 1].flag.key
    return "/flags" + query_of(q=form.q, owner=form.owner, show=form.show, after=after, count=count)
