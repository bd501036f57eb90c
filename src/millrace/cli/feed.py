"""`millrace feed` and `millrace why`: a member's feed, and the reasons behind it."""

import click
from rich.table import Table

from millrace.cli.frame import (
    Frame,
    console,
    data_dir_option,
    hushed,
    json_option,
    pass_frame,
    print_json,
    run,
    say,
)
from millrace.community.types import parse_key
from millrace.feed.types import LIMIT_MAX, Explanation, FeedPage, Nearness
from millrace.settings import Settings
from millrace.wiring import Say, build

TITLE_CHARACTERS_MAX = 60


@click.command(epilog="\b\nExamples:\n  millrace feed ada\n  millrace feed ada --limit 5 --json\n")
@click.argument("member")
@click.option(
    "--limit", type=click.IntRange(1, LIMIT_MAX), default=20, show_default=True, help="Posts."
)
@data_dir_option
@json_option
@pass_frame
def feed(frame: Frame, member: str, limit: int, data_dir: str | None, as_json: bool) -> None:
    """Print the feed that MEMBER would get now.

    Only a look: nothing is logged or counts as delivered, so what MEMBER gets does not change.

    MEMBER is a handle, an external id, or an id as the API writes it.
    """
    settings = frame.settings(store__data_dir=data_dir)
    page = run(_feed(settings, member, limit, hushed(as_json=as_json)))
    if as_json:
        print_json(_plain(page))
        return
    _print_page(page)


@click.command(
    epilog="\b\nExamples:\n  millrace why ada 7-1234\n  millrace why ada 7-1234 --json\n"
    "The ids of posts are in `millrace feed MEMBER`."
)
@click.argument("member")
@click.argument("post")
@data_dir_option
@json_option
@pass_frame
def why(frame: Frame, member: str, post: str, data_dir: str | None, as_json: bool) -> None:
    """Say why MEMBER gets POST, or not.

    The full trace: sources, features, which posts that MEMBER liked draw it near, the probability
    of each action with its weight, adjustments, the rank, or the stage and the reason that removed
    it.
    """
    settings = frame.settings(store__data_dir=data_dir)
    found = run(_why(settings, member, post, hushed(as_json=as_json)))
    if as_json:
        print_json(found)
        return
    _print_explanation(found)


async def _feed(settings: Settings, name: str, limit: int, tell: Say) -> FeedPage:
    async with build(settings, say=tell) as program:
        member = await program.members.find(name)
        return await program.feed.preview(member.key, limit=limit)


async def _why(settings: Settings, name: str, post: str, tell: Say) -> Explanation:
    key = parse_key(post, "POST")
    async with build(settings, say=tell) as program:
        member = await program.members.find(name)
        return await program.feed.why(member.key, key, oversees=True)


def _plain(page: FeedPage) -> dict[str, object]:
    """Return the page as the command prints it: what a row of the table has, by name."""
    return {
        "caught_up": page.caught_up,
        "degraded": page.degraded,
        "variants": page.variants,
        "items": [
            {
                "position": item.position,
                "post_id": str(item.view.post.key),
                "title": _title(item.view.post.title, item.view.post.text),
                "author": item.view.author.handle,
                "community": item.view.community_name,
                "score": item.score,
                "reason": item.reason,
                "seen": item.seen,
            }
            for item in page.items
        ],
    }


def _title(title: str, text: str) -> str:
    line = " ".join((title or text).split())
    if len(line) <= TITLE_CHARACTERS_MAX:
        return line
    return line[: TITLE_CHARACTERS_MAX - 1].rstrip() + "…"


def _print_page(page: FeedPage) -> None:
    table = Table("rank", box=None, header_style="bold")
    table.add_column("post", no_wrap=True)  # whole, because `why` takes it
    for name in ("title", "author", "score", "reason"):
        table.add_column(name)
    for item in page.items:
        post = item.view.post
        table.add_row(
            str(item.position + 1),
            str(post.key),
            _title(post.title, post.text),
            item.view.author.handle,
            f"{item.score:.3f}",
            f"{item.reason}{' (seen)' if item.seen else ''}",
        )
    console().print(table)
    if page.caught_up:
        say("all caught up: nothing new is left")
    for line in page.degraded:
        say(f"degraded: {line}")
    for flag, variant in sorted(page.variants.items()):
        say(f"flag {flag}: {variant}")


def _print_explanation(found: Explanation) -> None:
    out = console()
    out.print(f"the member reads: {found.sentence}", style="bold")
    if found.removed is not None:
        out.print(f"removed by {found.removed.stage}: {found.removed.reason}")
    if found.position is not None:
        out.print(f"rank {found.position + 1}, score {found.score or 0.0:.4f}")
    if found.sources:
        table = Table("source", "rank there", "score", box=None, header_style="bold")
        for note in found.sources:
            table.add_row(note.source, str(note.rank + 1), f"{note.score:.4f}")
        out.print(table)
    if found.nearness is not None:
        _print_nearness(found.nearness)
    if found.actions:
        table = Table("action", "probability", "weight", "value", box=None, header_style="bold")
        for note in found.actions:
            table.add_row(
                note.action, f"{note.probability:.4f}", f"{note.weight:g}", f"{note.value:+.4f}"
            )
        out.print(table)
    if found.adjustments:
        table = Table("adjustment", "reason", "before", "after", box=None, header_style="bold")
        for note in found.adjustments:
            table.add_row(note.stage, note.reason, f"{note.before:.4f}", f"{note.after:.4f}")
        out.print(table)
    _print_pairs("feature", {name: f"{value:g}" for name, value in found.features.items()})
    _print_pairs("variant of", found.variants)
    _print_pairs("not obeyed", found.faults)
    _print_pairs("version of", found.versions)


def _print_nearness(found: Nearness) -> None:
    """Print where the nearness of a post comes from, in percent of it."""
    name = f"nearness {found.similarity:.3f} comes from"
    table = Table(name, "share", "when", box=None, header_style="bold")
    for one in found.liked:
        title = f"{one.post} {_title(one.title, '')}".rstrip()
        table.add_row(title, _percent(one.share), f"{one.engaged_at:%Y-%m-%d %H:%M}")
    if found.posts:
        table.add_row(f"others of {found.posts} liked posts", _percent(found.others), "")
    table.add_row("the profile", _percent(found.profile), "")
    console().print(table)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _print_pairs(name: str, pairs: dict[str, str]) -> None:
    if not pairs:
        return
    table = Table(name, "", box=None, header_style="bold")
    for key in sorted(pairs):
        table.add_row(key, pairs[key])
    console().print(table)
