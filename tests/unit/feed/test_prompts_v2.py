"""Prompts v2 beside the table of what they are. The table is frozen: a change is a v3."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace.feed.prompts import v2
from millrace.feed.prompts.types import Marker, MemberFacts, PostFacts, prompt_hash, render

TABLE = json.loads((Path(__file__).parents[2] / "conformance" / "prompts_v2.json").read_text())


def words(text: str) -> int:
    return len(text.split())


def a_post(**changes: Any) -> PostFacts:
    plain = PostFacts(
        kind="note",
        author_name="Ada",
        headline="",
        community="Riverside",
        topics=[],
        title="",
        text="The bridge is open.",
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
    )
    return msgspec.structs.replace(plain, **changes)


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["name"])
def test_conforms_to_the_table(case: dict[str, Any]):
    if "post" in case:
        prompt = v2.post_prompt(msgspec.convert(case["post"], PostFacts))
    else:
        facts = msgspec.convert(case["member"], MemberFacts)
        prompt = v2.member_prompt(facts, case["tokens_max"], words)

    assert render(prompt) == case["prompt"]
    assert len(prompt) == case["parts"]


def test_the_table_is_of_this_version():
    assert TABLE["version"] == v2.VERSION


def test_every_marker_is_declared():
    """A marker that is not in MARKERS has no token."""
    everything = [case for case in TABLE["cases"] if "with everything" in case["name"]]
    post, member = (msgspec.convert(c.get("post") or c["member"], t) for c, t in zip(
        everything, (PostFacts, MemberFacts), strict=True))  # fmt: skip

    used = {part for part in v2.post_prompt(post) if isinstance(part, Marker)}
    used |= {part for part in v2.member_prompt(member, 500, words) if isinstance(part, Marker)}

    assert used == set(v2.MARKERS)
    assert len(v2.MARKERS) == len(set(v2.MARKERS))


@pytest.mark.parametrize("value", [-1, 101])
def test_a_percentile_outside_its_range_is_a_mistake_of_ours(value: int):
    with pytest.raises(AssertionError, match=f"view_percentile {value} is outside"):
        v2.post_prompt(a_post(view_percentile=value))


def test_a_hash_tells_a_marker_from_its_look():
    real = (Marker("text"), "a")
    forged = ("<text>a",)

    assert render(real) == render(forged)
    assert prompt_hash(real) != prompt_hash(forged)
    assert prompt_hash(real) == prompt_hash((Marker("text"), "a"))
