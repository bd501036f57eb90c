"""Goal: what a feed request reads are key ranges, never whole tables."""

import json

import psycopg
import pytest

from millrace.community.intake import QUERIES
from millrace.community.testing import NOON
from millrace.community.types import BIGINT_MAX

pytestmark = pytest.mark.services

MEMBER = {"community_id": 1, "member_id": 2}
VIEWER = {"viewer_role": "member", "viewer_community": 1, "viewer_member": 2}
LOGS = {
    "impression",
    "engagement",
    "post",
    "post_counter",
    "member",
    "member_counter",
    "comment",
    "follow",
    "block",
}
READS = {
    "positives": MEMBER | {"kinds": ["like"], "before": NOON, "limit": 50},
    "seen_posts": MEMBER | {"since": NOON},
    "hidden_posts": MEMBER,
    "affinity": MEMBER | {"kinds": ["like"], "since": NOON},
    "relations": MEMBER,
    "post_views": VIEWER | {"communities": [1], "posts": [2]},
    "newest_posts": VIEWER
    | {"community_id": 1, "author_id": None, "before": BIGINT_MAX, "limit": 20},
    "thread": VIEWER | {"post_community_id": 1, "post_id": 2, "after": 0, "limit": 20},
    "member_by_key": VIEWER | MEMBER,
    "known_members": {"community_id": 1, "names": ["x"]},
    "known_posts": {"community_id": 1, "names": ["x"]},
    "list_followers": VIEWER | MEMBER | {"after": 0, "limit": 20},
}


def scanned(node):
    """Yield the tables that a plan reads from end to end."""
    if node["Node Type"] == "Seq Scan":
        yield node["Relation Name"]
    for child in node.get("Plans", []):
        yield from scanned(child)


@pytest.mark.parametrize("name", READS)
def test_reads_are_ranges_of_an_index(conninfo, name):
    """Where the planner may choose an index, there is one: an empty table would be scanned."""
    with psycopg.connect(conninfo) as db:
        db.execute("set enable_seqscan = off")
        (plan,) = db.execute(f"explain (format json) {QUERIES[name].text}", READS[name]).fetchone()

    plan = plan if isinstance(plan, list) else json.loads(plan)
    assert set(scanned(plan[0]["Plan"])) & LOGS == set()


def test_hides_have_an_index_of_their_own(conninfo):
    """Hides and reports are kept for ever; they are found without reading the history."""
    with psycopg.connect(conninfo) as db:
        db.execute("set enable_seqscan = off")
        lines = db.execute(f"explain {QUERIES['hidden_posts'].text}", MEMBER).fetchall()

    assert any("engagement_against" in line for (line,) in lines)
