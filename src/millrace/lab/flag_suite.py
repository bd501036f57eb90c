"""The public suite of flagd's behaviour, played on our evaluator: every step has its definition."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from millrace.lab import gherkin
from millrace.lab.gherkin import Row, Step
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.types import ABSENT, FlagType, Resolution

FLAGS = "flags/testkit-flags.json"
FEATURES = "gherkin"
OTHER_BUCKETING = {
    "@fractional-v1": "expects bucketing v1 (floating point), which Millrace does not have",
}
NOW = 1_790_000_000.0  # the suite asks for no time


class Played(Struct, frozen=True):
    """How a row went. failure: empty where it passed. skipped: why it was not played."""

    row: Row
    failure: str = ""
    skipped: str = ""


class _Scene(Struct):
    """What a scenario has said so far."""

    flags: FlagSet
    key: str = ""
    kind: FlagType = FlagType.BOOLEAN
    default: Any = None
    context: dict[str, Any] = field(default_factory=dict[str, Any])
    found: Resolution | None = None

    def resolution(self) -> Resolution:
        """Return the resolution, once the flag was evaluated."""
        assert self.found is not None, "the scenario asks for a result before it evaluates the flag"
        return self.found


def rows(folder: Path) -> list[Row]:
    """Return all rows of the suite, in the order of the files."""
    return [
        row for file in sorted((folder / FEATURES).glob("*.feature")) for row in gherkin.rows(file)
    ]


def flags(folder: Path) -> FlagSet:
    """Return the flags that the suite asks for, compiled."""
    return FlagSet.compile(json.loads((folder / FLAGS).read_text(encoding="utf-8")))


def play(row: Row, flags: FlagSet) -> Played:
    """Play a row and return how it went."""
    for tag, reason in OTHER_BUCKETING.items():
        if tag in row.tags:
            return Played(row, skipped=reason)
    scene = _Scene(flags)
    for step in row.steps:
        failure = _played(step, scene)
        if failure:
            return Played(row, failure=f"{step.text}: {failure}")
    return Played(row)


def _played(step: Step, scene: _Scene) -> str:
    """Play a step; return what is wrong, or nothing."""
    for pattern, act in _STEPS.items():
        found = re.fullmatch(pattern, step.text)
        if found:
            return act(scene, step, *found.groups()) or ""
    return "no definition of this step"


def _read(kind: str, text: str) -> Any:
    """Return the value that a text of the suite stands for, in the type that it names."""
    match kind.lower():
        case "boolean":
            return text.lower() == "true"
        case "integer":
            return int(text)
        case "float":
            return float(text)
        case "object":
            return json.loads(text.replace('\\"', '"'))
        case _:
            return text


def _nothing(_scene: _Scene, _step: Step) -> None:
    pass


def _flag(scene: _Scene, _step: Step, kind: str, key: str, default: str) -> None:
    scene.kind, scene.key, scene.default = FlagType(kind.lower()), key, _read(kind, default)


def _attribute(scene: _Scene, _step: Step, name: str, kind: str, value: str) -> None:
    scene.context[name] = _read(kind, value)


def _targeting_key(scene: _Scene, _step: Step, value: str) -> None:
    scene.context["targetingKey"] = value


def _nested(scene: _Scene, _step: Step, outer: str, inner: str, value: str) -> None:
    scene.context[outer] = {inner: value}


def _evaluated(scene: _Scene, _step: Step) -> None:
    scene.found = scene.flags.resolve(scene.key, scene.kind, scene.context, NOW)


def _value(scene: _Scene, _step: Step, text: str) -> str:
    found = scene.resolution().value
    value, wanted = scene.default if found is ABSENT else found, _read(scene.kind.value, text)
    return "" if value == wanted and type(value) is type(wanted) else f"it is {value!r}"


def _reason(scene: _Scene, _step: Step, wanted: str) -> str:
    reason = scene.resolution().reason.value
    return "" if reason == wanted else f"it is {reason}"


def _error(scene: _Scene, _step: Step, wanted: str) -> str:
    error = scene.resolution().error
    return "" if error is not None and error.value == wanted else f"it is {error}"


def _metadata(scene: _Scene, step: Step) -> str:
    said = scene.resolution().metadata
    wanted = {name: _read(kind, value) for name, kind, value in step.table[1:]}
    return "" if wanted.items() <= said.items() else f"it is {dict(said)}"


def _no_metadata(scene: _Scene, _step: Step) -> str:
    said = scene.resolution().metadata
    return "" if not said else f"it is {dict(said)}"


_STEPS: Mapping[str, Callable[..., str | None]] = {
    "an evaluator": _nothing,
    r'an? (\w+)-flag with key "(.*)" and a fallback value "(.*)"': _flag,
    r'a context containing a key "(.*)", with type "(.*)" and with value "(.*)"': _attribute,
    r'a context containing a targeting key with value "(.*)"': _targeting_key,
    r'a context containing a nested property with outer key "(.*)" and inner key "(.*)", '
    r'with value "(.*)"': _nested,
    "the flag was evaluated with details": _evaluated,
    r'the resolved details value should be "(.*)"': _value,
    r'the reason should be "(.*)"': _reason,
    r'the error-code should be "(.*)"': _error,
    "the resolved metadata should contain": _metadata,
    "the resolved metadata is empty": _no_metadata,
}
