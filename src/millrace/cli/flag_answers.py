"""`millrace flags explain`: why a member is given what they are given."""

from typing import Any

import click
import msgspec
from msgspec import Struct
from rich.text import Text

from millrace.cli.flag_desk import decoded, row, show, table, worked
from millrace.cli.flag_edits import pair
from millrace.cli.frame import (
    Frame,
    console,
    data_dir_option,
    json_option,
    pass_frame,
    print_json,
)
from millrace.release.flags import why
from millrace.release.flags.contexts import TRACK, App
from millrace.release.flags.difference import shown
from millrace.release.flags.rings import Explanation
from millrace.release.flags.types import ABSENT, TARGETING_KEY
from millrace.release.flags.why import Decision, Draw
from millrace.wiring import Domain

SIGNS = {True: Text("yes", "green"), False: Text("no", "red"), None: Text("not asked")}


class Answer(Struct, frozen=True):
    """A decision with the ring and the context that it was made from."""

    decision: Decision
    ring: Explanation
    context: dict[str, Any]


@click.command(
    "explain",
    epilog="\b\nExamples:\n  millrace flags explain new-home ada\n"
    "  millrace flags explain new-home ada --track ios --app-version 4.2.0 --json\n"
    "  millrace flags explain new-home visitor-17 --stranger --having plan=free\n",
)
@click.argument("key")
@click.argument("member")
@click.option("--track", default=TRACK, show_default=True, help="android, ios, desktop or server.")
@click.option("--app-version", default="", metavar="VERSION")
@click.option("--platform", default="", metavar="NAME")
@click.option("--language", default="", metavar="CODE")
@click.option("--country", default="", metavar="DE", help="Default: that of their community.")
@click.option("--having", multiple=True, metavar="NAME=VALUE", help="Another attribute.")
@click.option("--stranger", is_flag=True, help="MEMBER is nobody we know, but any targeting key.")
@data_dir_option
@json_option
@pass_frame
def explain(
    frame: Frame, key: str, member: str, data_dir: str | None, as_json: bool, **options: Any
) -> None:
    """Say what the flag KEY gives MEMBER, and why.

    Which rule decided, what each condition came to, the ring and what put them there, the place in
    a split with its thresholds, and the context that was looked at. It does not count as use.

    MEMBER is a handle, an external id, or an id as the API writes it.
    """

    async def ask(domain: Domain) -> Answer:
        flags = domain.flags
        flag = await flags.get(key)
        await flags.load()
        context = await _context(domain, member, options)
        now = domain.clock.now().timestamp()
        decision = why.explain(flags.flagset(), key, decoded(flag.content), context, now)
        name = str(context[TARGETING_KEY])
        return Answer(decision, flags.rings().explain(options["track"], name, context), context)

    answer = worked(frame, data_dir, as_json, ask)
    if as_json:
        print_json(_plain(answer))
        return
    _print(answer)


async def _context(domain: Domain, member: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return what the decision may look at, as a request of the member would have it."""
    app = App(
        track=options["track"],
        version=options["app_version"],
        platform=options["platform"],
        language=options["language"],
    )
    more = dict(pair(each, "having") for each in options["having"])
    if not options["stranger"]:
        found = await domain.members.find(member)
        return domain.flags.context_of(found.key, app, country=options["country"], more=more)
    said = {
        TARGETING_KEY: member,
        "track": app.track,
        "appVersion": app.version,
        "platform": app.platform,
        "language": app.language,
        "country": options["country"],
    }
    known = {name: value for name, value in said.items() if value}
    return domain.flags.enriched({**more, **known}, trusted=True)


def _plain(answer: Answer) -> dict[str, Any]:
    """Return the answer for programs; a value that is absent is left out."""
    resolution = answer.decision.resolution
    value = {} if resolution.value is ABSENT else {"value": resolution.value}
    return {
        "key": resolution.key,
        **value,
        "variant": resolution.variant,
        "reason": resolution.reason,
        "error": resolution.error,
        "message": resolution.message,
        "sentence": answer.decision.sentence,
        "rules": answer.decision.steps,
        "split": answer.decision.draw,
        "ring": answer.ring,
        "context": answer.context,
    }


def _print(answer: Answer) -> None:
    out, decision = console(), answer.decision
    resolution = decision.resolution
    given = (
        "the default in the code"
        if resolution.value is ABSENT
        else f"{resolution.variant} = {shown(resolution.value)}"
    )
    out.print(f"{resolution.key}: {given} ({resolution.reason})", style="bold", markup=False)
    out.print(decision.sentence, markup=False)
    made = table("rule", "holds", "conditions")
    for step in decision.steps:
        tests = "; ".join(f"{test.words}: {'yes' if test.holds else 'no'}" for test in step.tests)
        row(made, f"{step.number}. {step.words}", SIGNS[step.holds], tests or "-")
    show(made)
    if decision.draw is not None:
        _print_draw(decision.draw, resolution.variant)
    out.print(f"ring: {answer.ring.sentence}", markup=False)
    made = table("ring", "in it", "because")
    for step in answer.ring.steps:
        row(made, step.ring, SIGNS[step.inside], step.because)
    show(made)
    made = table("looked at", "")
    for name in sorted(answer.context):
        row(made, name, shown(answer.context[name]))
    show(made)


def _print_draw(draw: Draw, variant: str) -> None:
    hashed = draw.hashed if isinstance(draw.hashed, str) else msgspec.json.encode(draw.hashed)
    text = hashed if isinstance(hashed, str) else hashed.decode()
    console().print(
        f"place: {text} lies at {draw.percent:.4f} % by bucketing {draw.bucketing} "
        f"({draw.place} of 2^32), which is bucket {draw.bucket} of {draw.total}",
        markup=False,
    )
    made = table("share", "weight", "from", "to before", "")
    for each in draw.slices:
        here = "here" if each.start <= 100 * draw.bucket / draw.total < each.end else ""
        row(made, each.variant, str(each.weight), f"{each.start:g} %", f"{each.end:g} %", here)
    show(made)
