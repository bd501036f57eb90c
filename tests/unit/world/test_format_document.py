"""Goal: docs/import-format.md names every field of every draft, and its examples are rows."""

import re
from pathlib import Path

import msgspec
import pytest

from millrace.community.types import OFFICES, CommunityDraft
from millrace.world.importers.directory import NOUNS, Anchors, rows_of
from millrace.world.types import Row

DOCUMENT = (Path(__file__).parents[3] / "docs" / "import-format.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("draft", [CommunityDraft, *NOUNS.values()], ids=lambda one: one.__name__)
def test_every_field_is_documented(draft):
    missing = [name for name in draft.__struct_fields__ if f"`{name}`" not in DOCUMENT]

    assert not missing, f"add {missing} of {draft.__name__} to docs/import-format.md"


def test_the_example_is_readable(tmp_path):
    example = DOCUMENT.split("### An example")[1]
    lines = re.search(r"```json\n(.*?)```", example, re.DOTALL)[1].splitlines()

    for noun, line in zip(("members", "posts", "engagements"), lines, strict=True):
        path = tmp_path / f"{noun}.jsonl"
        path.write_text(line)
        (row,) = [one for one in rows_of(path, noun, Anchors("quay", {})) if isinstance(one, Row)]
        assert isinstance(row.drafts[0], NOUNS[noun])


def test_every_choice_is_documented():
    """A writer of the format sees which words are allowed."""
    for draft in NOUNS.values():
        for field in msgspec.structs.fields(draft):
            for choice in getattr(field.type, "__members__", {}).values():
                if choice not in OFFICES:  # never a member's role
                    assert f"`{choice}`" in DOCUMENT, f"{draft.__name__}.{field.name}: {choice}"
