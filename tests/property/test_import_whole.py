"""Goal: an import of anything ends with a report in which every row is counted once."""

import asyncio
import json
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.community.testing import Rooms
from millrace.store.testing import opened
from millrace.world.importers.directory import import_dir
from millrace.world.rejects import RejectsList

texts = st.text(max_size=12) | st.sampled_from(
    ["ada", "ben", "p1", "p2", "c1", "\x00", "\ud800", " "]
)
times = st.sampled_from(
    ["2026-01-01T00:00:00Z", "2026-01-01", "-P1D", "0001-01-01T00:00:00+14:00", "1969-01-01",
     "9999-12-31T23:59:59-14:00", "2026-02-28T12:00:00.123456+01:00"]
)  # fmt: skip
numbers = st.integers(-2, 2**70) | st.sampled_from([0, 1, 2**31, 2**63])


def rows(required, **optional):
    return st.lists(st.fixed_dictionaries(required, optional=optional), max_size=6)


NOUNS = {
    "members": rows({"external_id": texts, "display_name": texts}, handle=texts, joined_at=times,
                    languages=st.lists(texts, max_size=2), role=texts),
    "posts": rows({"external_id": texts, "author": texts, "text": texts}, created_at=times,
                  views=numbers, topics=st.lists(texts, max_size=3), link=texts),
    "comments": rows({"external_id": texts, "author": texts, "post": texts, "text": texts},
                     parent=texts, created_at=times),
    "follows": rows({"member": texts, "target": texts}, created_at=times),
    "impressions": rows({"member": texts, "post": texts, "shown_at": times}, position=numbers,
                        surface=texts),
    "engagements": rows({"member": texts, "post": texts, "happened_at": times,
                         "kind": st.sampled_from(["like", "hide", "block", "mute", "comment"])},
                        dwell_ms=numbers, position=numbers),
}  # fmt: skip
GOOD = {
    "members": [{"external_id": name, "display_name": name} for name in ("ada", "ben")],
    "posts": [{"external_id": "p1", "author": "ada", "text": "t"}],
}


def encoded(row):
    """Return a row as JSON; half a surrogate pair is written as its escape."""
    return json.dumps(row).encode() + b"\n"


def test_every_row_is_taken_or_set_aside(conninfo):
    """One database, one community per example: nothing raises, every row is counted once."""

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(content=st.fixed_dictionaries(NOUNS), number=st.uuids())
    def check(content, number):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for noun, found in content.items():
                lines = [*GOOD.get(noun, []), *found]
                (folder / f"{noun}.jsonl").write_bytes(b"".join(map(encoded, lines)))

            report, rejects = asyncio.run(imported(folder, str(number)))
            again, rejects_again = asyncio.run(imported(folder, str(number)))

        for noun, found in content.items():
            one = report.files[f"{noun}.jsonl"]
            assert one.rows == len(GOOD.get(noun, [])) + len(found)
            assert one.rows == one.taken + one.rejected
        assert len(rejects) == report.rejected
        assert report.files["posts.jsonl"].taken >= 1
        assert rejects_again == rejects
        assert all(one.created == one.updated == 0 for one in again.nouns.values())

    async def imported(folder, community):
        rejects = RejectsList()
        async with opened(conninfo) as router:
            report = await import_dir(Rooms(router), folder, rejects=rejects, community=community)
        return report, rejects.rows

    check()
