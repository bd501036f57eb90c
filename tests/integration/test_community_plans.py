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
AFTER = {"after_community": 0, "after_member": 0, "limit": 20}
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
    "list_followers": VIEWER | MEMBER | AFTER,
    "list_follows": VIEWER | MEMBER | AFTER,
    "member_profile": VIEWER | MEMBER,
    "found_posts": VIEWER
    | {"words": "boats", "head": "boats", "tail": "", "ranked_max": 10, "fresh_seconds": 1.0}
    | {"community_id": None, "author_community": None, "author_id": None, "kind": None}
    | {"topic": None, "since": None, "asked_at": NOON},
    "found_members": VIEWER
    | {"wanted": "'boa':*", "named": "'boa':A", "community_id": None, "ranked_max": 10},
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


@pytest.mark.parametrize("name", ["list_followers", "list_follows"])
def test_a_page_of_people_is_not_sorted(conninfo, name):
    """The index has the order of the pages, so that a page costs the same however many follow."""
    with psycopg.connect(conninfo) as db:
        db.execute("set enable_seqscan = off; set enable_bitmapscan = off")
        lines = db.execute(f"explain {QUERIES[name].text}", READS[name]).fetchall()

    assert not any("Sort" in line for (line,) in lines), lines


def test_hides_have_an_index_of_their_own(conninfo):
    """Hides and reports are kept for ever; they are found without reading the history."""
    with psycopg.connect(conninfo) as db:
        db.execute("set enable_seqscan = off")
        lines = db.execute(f"explain {QUERIES['hidden_posts'].text}", MEMBER).fetchall()

    assert any("engagement_against" in line for (line,) in lines)
