"""Goal: whatever a client sends to an evaluation, it is answered in OFREP's form and nothing breaks."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.api.evaluations import CONTEXT_DEPTH_MAX, Evaluations
from millrace.api.wire_ofrep import event_stream
from millrace.community.types import Key, Role, Viewer
from millrace.kernel.errors import ForbiddenError
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.types import Resolution

VARIANTS = {"on": True, "off": False}
DOCUMENT = {
    "flags": {
        "rule": {
            "state": "ENABLED",
            "variants": VARIANTS,
            "defaultVariant": "off",
            "targeting": {"if": [{"in": [{"var": "a"}, {"var": "b"}]}, {"var": "c"}, "off"]},
        },
        "split": {
            "state": "ENABLED",
            "variants": VARIANTS,
            "defaultVariant": "off",
            "targeting": {"fractional": [["on", 50], ["off", 50]]},
        },
        "broken": {"state": "ENABLED", "variants": {}},
        "off": {"state": "DISABLED", "variants": VARIANTS, "defaultVariant": "on"},
    },
    "metadata": {"set": "test"},
}
KEYS = [*DOCUMENT["flags"], "missing"]
STREAM = event_stream("", "/ofrep/v1/events")
OWN = Key(7, 42)
MEMBER = Viewer(Role.MEMBER, OWN, f"member:{OWN}")
MANAGER = Viewer(Role.RELEASE_MANAGER, None, "operator:rita")
names = st.sampled_from(["a", "b", "c", "targetingKey", "appVersion", "platform"]) | st.text(
    max_size=5
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just(str(OWN)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
bodies = (
    st.binary(max_size=40)
    | values.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(names, values, max_size=6).map(lambda c: json.dumps({"context": c}).encode())
    | st.fixed_dictionaries(
        {"appVersion": st.just("8.9.2"), "targetingKey": st.just(str(OWN))},
        optional={"platform": st.just("ios") | values},
    ).map(lambda context: json.dumps({"context": context}).encode())
)


class Standing:
    """Flags that stand still."""

    def __init__(self) -> None:
        self._flags = FlagSet.compile(DOCUMENT)
        self.noted: list[tuple[Key, str, str]] = []

    def etag(self) -> str:
        return "1"

    def evaluate(self, key: str, context: Mapping[str, Any]) -> Resolution:
        return self._flags.evaluate(key, context, 1.8e9)

    def evaluate_all(self, context: Mapping[str, Any]) -> list[Resolution]:
        return [self.evaluate(key, context) for key in DOCUMENT["flags"]]

    def enriched(self, context: Mapping[str, Any], *, trusted: bool = False) -> dict[str, Any]:
        return dict(context)

    def flagset(self) -> FlagSet:
        return self._flags

    async def changed(self, etag: str, seconds: float) -> str:
        return "1"

    async def note_app(self, member: Key, track: str, version: str) -> None:
        self.noted.append((member, track, version))


@given(body=bodies, key=st.sampled_from(KEYS), viewer=st.sampled_from([MEMBER, MANAGER]))
def test_any_body_is_answered_in_the_form_of_ofrep(body, key, viewer):
    """A success has its variant, a failure its code and details; a member is told only of themself."""
    flags = Standing()
    evaluations = Evaluations(flags)
    try:
        told = asyncio.run(evaluations.one(viewer, key, body))
        every = asyncio.run(evaluations.every(viewer, body, STREAM))
    except ForbiddenError:
        assert viewer is MEMBER
        assert json.loads(body)["context"]["targetingKey"] != str(OWN)
        return

    found = json.loads(told.body)
    assert found["key"] == key
    assert (told.status == 200) == ("errorCode" not in found)
    assert {"reason", "variant", "metadata"} <= set(found) or found["errorDetails"]
    assert told.status in {200, 400} or (told.status, key) == (404, "missing")
    assert every.status in {200, 400}
    if every.status == 200:
        same = asyncio.run(evaluations.every(viewer, body, STREAM, every.etag))
        assert (same.status, same.body) == (304, b"")
        by_key = {one["key"]: one for one in json.loads(every.body)["flags"]}
        assert key == "missing" or by_key[key] == found
    assert all(member == OWN or viewer is MANAGER for member, _, _ in flags.noted)


@pytest.mark.parametrize("opening", ["[", '{"x":'])
@given(depth=st.integers(1, 40))
def test_depth_has_one_bound(opening, depth):
    """A context of so many levels is taken, and one level more is not."""
    closing = "]" if opening == "[" else "}"
    body = '{"context":{"x":' + opening * depth + "1" * (opening != "[") + closing * depth + "}}"
    told = asyncio.run(Evaluations(Standing()).one(MANAGER, "off", body.encode()))

    assert (told.status == 200) == (depth + 1 <= CONTEXT_DEPTH_MAX)
