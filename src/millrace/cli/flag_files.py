"""`millrace flags export`, `import`, `references`, `stale`: flags as files, and flags in code."""

from pathlib import Path
from typing import Any

import click

from millrace.cli import failures
from millrace.cli.flag_desk import (
    acting,
    counted,
    decoded,
    reason_of,
    reason_option,
    row,
    show,
    table,
    text_in,
    token_option,
    warn,
    worked,
)
from millrace.cli.flag_scans import searched_for, searched_here, server_of
from millrace.cli.frame import (
    Frame,
    console,
    data_dir_option,
    json_option,
    pass_frame,
    print_json,
    run,
    say,
)
from millrace.release.flags import references as code
from millrace.release.flags.bringing import Exported, Imported, planned
from millrace.release.flags.difference import differences
from millrace.release.flags.references import Found
from millrace.release.flags.stale import Finding
from millrace.wiring import Domain

PLACES_SHOWN = 5
KEYS_SHOWN = 20
MEGABYTE = 1_000_000

folder_type = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command(
    "export",
    epilog="\b\nExamples:\n  millrace flags export flags.json\n  millrace flags export\n",
)
@click.argument(
    "file", required=False, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True)
)
@data_dir_option
@json_option
@pass_frame
def exported(frame: Frame, file: Path | None, data_dir: str | None, as_json: bool) -> None:
    """Write all flags to FILE, in flagd's JSON.

    Each as it was written. Without FILE the document goes to standard output. What other
    evaluators do not know is told.
    """
    made = worked(frame, data_dir, as_json or file is None, _document)
    warn(list(made.problems))
    if file is None or str(file) == "-":
        click.echo(made.text, nl=False)
        return
    file.write_text(made.text, encoding="utf-8")
    many = len(decoded(made.text)["flags"])
    if as_json:
        print_json({"file": str(file), "flags": many, "warnings": made.problems})
    else:
        click.echo(f"wrote {counted(many, 'flag')} to {file}")


async def _document(domain: Domain) -> Exported:
    return await domain.flags.document()


@click.command(
    "import",
    epilog="\b\nExamples:\n  millrace flags import flags.json --dry-run\n"
    "  millrace flags import flags.json --reason 'moved from flagd'\n",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@reason_option
@token_option
@data_dir_option
@json_option
@pass_frame
def imported(
    frame: Frame,
    file: Path,
    dry_run: bool,
    reason: str | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Bring in the flags of FILE.

    It is flagd's JSON of many flags; - reads standard input. What an editor would refuse is a
    warning here. The same file again changes nothing, and flags
    that it does not name stay as they are.
    """
    text = text_in(file)

    async def bring(domain: Domain) -> Imported:
        if dry_run:
            return await _rehearsed(domain, text, as_json=as_json)
        why = reason_of(domain.flags, reason, f"imported from {file.name}")
        return await domain.flags.bring_in(text, actor=await acting(domain), reason=why)

    made = worked(frame, data_dir, as_json, bring)
    if as_json:
        print_json(made)
        return
    warn(list(made.problems))
    parts = [
        f"{len(made.created):,} new", f"{len(made.changed):,} changed",
        f"{len(made.unchanged):,} the same",
    ]  # fmt: skip
    if made.waiting:
        parts.append(f"{len(made.waiting):,} wait for approval")
    if made.left_out:
        parts.append(f"{len(made.left_out):,} left out")
    click.echo(f"{', '.join(parts)}{'; nothing was changed' if dry_run else ''}")


async def _rehearsed(domain: Domain, text: str, *, as_json: bool) -> Imported:
    """Return what an import would do, and print how flags would differ."""
    stands = {flag.key: flag for flag in await domain.flags.every()}
    plan = planned(text, {**stands, **await domain.flags.shared()})
    before = {key: decoded(stands[key].content) for key in plan.changed if key in stands}
    after = {key: decoded(content) for key, content in plan.texts.items()}
    for each in [] if as_json else differences(before, after):
        click.echo(f"{each.key}: {' '.join(each.words)}")
    return Imported(
        created=plan.created,
        changed=plan.changed,
        unchanged=plan.unchanged,
        waiting=(),
        left_out=plan.left_out,
        problems=plan.problems,
    )


@click.command(
    "references",
    epilog="\b\nExamples:\n  millrace flags references .\n"
    "  millrace flags references src --strict --json\n"
    "  millrace flags references . --send shop --server https://feed.example\n",
)
@click.argument("folder", metavar="DIR", type=folder_type)
@click.option("--strict", is_flag=True, help="Status 1 where code asks for a flag there is not.")
@click.option("--send", "name", metavar="NAME", help="Keep what was found, as this repository's.")
@click.option("--server", metavar="URL", help="Ask and tell this server; it takes a token.")
@token_option
@data_dir_option
@json_option
@pass_frame
def references(
    frame: Frame, folder: Path, data_dir: str | None, as_json: bool, **options: Any
) -> int:
    """Look where the code in DIR names flags.

    And where it asks for flags that there are not. A reference is a string literal that is
    exactly a key. Ignored, generated and vendored files,
    binaries and documents are left out. A key that is put together from parts is not seen.

    With --send the flags that no code names are told by `millrace flags stale` and on the pages,
    until the next scan of the same NAME.
    """
    name, server = options["name"], server_of(options["server"])
    if server is None:
        found = worked(frame, data_dir, as_json, lambda domain: searched_here(domain, folder, name))
    else:
        found = run(searched_for(server, folder, name))
    if as_json:
        print_json({**_plain(found), "unreferenced": found.unreferenced()})
    else:
        _print_found(found)
        if name is not None:
            say(f"kept as the newest scan of {name}")
    return failures.NOT_ALL_WELL if options["strict"] and found.unknown else failures.DONE


def _plain(found: Found) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Found.__struct_fields__}


def _print_found(found: Found) -> None:
    made = table("flag", "places", "such as")
    for key, places in found.references.items():
        if places:
            shown = [f"{each.file}:{each.line}" for each in places[:PLACES_SHOWN]]
            row(made, key, f"{found.counts[key]:,}", "  ".join(shown))
    show(made)
    nobody = found.unreferenced()
    if nobody:
        more = f" and {len(nobody) - KEYS_SHOWN} more" if len(nobody) > KEYS_SHOWN else ""
        console().print(f"no code names {', '.join(nobody[:KEYS_SHOWN])}{more}", markup=False)
    made = table("asked for, and not there", "where", "line")
    for each in found.unknown:
        row(made, each.key, f"{each.file}:{each.line}", each.text)
    show(made)
    skipped = ", ".join(f"{many:,} {what}" for what, many in sorted(found.skipped.items()))
    size = f"{found.read_bytes / 1e6:.1f} MB" if found.read_bytes >= MEGABYTE else "under 1 MB"
    say(f"read {counted(found.files, 'file')}, {size}; not read: {skipped or 'nothing'}")
    if found.incomplete:
        say(f"incomplete: {found.incomplete}")


@click.command(
    "stale",
    epilog="\b\nExamples:\n  millrace flags stale\n  millrace flags stale --code . --days 60\n",
)
@click.option("--days", type=click.IntRange(1, 3_650), help="Default: flags.stale_days.")
@click.option("--code", "folder", metavar="DIR", type=folder_type, help="Also look who names them.")
@data_dir_option
@json_option
@pass_frame
def stale(
    frame: Frame, days: int | None, folder: Path | None, data_dir: str | None, as_json: bool
) -> None:
    """Print flags that may go.

    Never asked for, the same for everyone, or named by no code: by that in --code, else by the
    newest scans that were sent (`millrace flags scans`). Each with what shows it and the
    next step. A flag that is meant to stay says so: `millrace flags set KEY --metadata
    permanent=true`.
    """

    async def look(domain: Domain) -> list[Finding]:
        if folder is None:
            return await domain.flags.findings(days)
        found = code.search(folder, [flag.key for flag in await domain.flags.every()])
        return await domain.flags.findings(days, {} if found.incomplete else found.counts)

    found = worked(frame, data_dir, as_json, look)
    if as_json:
        print_json({"stale": found})
        return
    made = table("flag", "owner", "why", "what shows it", "next step")
    for each in found:
        why = each.kind.replace("_", " ")
        row(made, each.key, each.owner or "-", why, each.evidence, each.next_step)
    show(made)
    if not found:
        say("no flag is stale")
