"""Goal: the small community is whole, varied and loads the same on any day."""

import json
import re
from collections import Counter
from pathlib import Path

from import_state import counts, state

from millrace.community.testing import NOON, OPERATOR, Rooms
from millrace.world import small
from millrace.world.small import make
from millrace.world.small.loading import FOLDER
from millrace.world.small.written import written_posts


def lines(noun):
    return [json.loads(line) for line in (FOLDER / f"{noun}.jsonl").read_text().splitlines()]


async def test_it_loads_and_loads_again(router, conninfo):
    """A second load, days later, changes nothing."""
    told = []
    rooms = Rooms(router)
    report = await small.load(rooms, lambda *step: told.append(step))
    assert report.exit_status == 0
    assert report.rejected == 0
    assert report.ignored == []
    assert {file for file, _, _ in told} == set(report.files)
    found = counts(conninfo)
    assert found["community"] == 4
    assert found["nearby"] == 12
    assert found["member"] >= 300
    assert found["post"] >= 350
    assert found["comment"] >= 250
    before = state(conninfo)
    rooms.clock.move(3 * 86_400)

    again = await small.load(rooms)

    assert state(conninfo) == before
    assert all(one.created == one.updated == 0 for one in again.nouns.values())


async def test_the_demo_is_fresh(router):
    """On the day of the first load there are posts of the last hours, and none of tomorrow."""
    rooms = Rooms(router)
    report = await small.load(rooms)

    for community_id in report.communities.values():
        newest = await rooms.posts.newest(OPERATOR, community_id, None, 1 << 62, 1)
        age = NOON - newest[0].post.created_at
        assert 0 < age.total_seconds() < 2 * 86_400


def test_texts_are_varied():
    posts = lines("posts")
    members = lines("members")

    assert len({post["text"] for post in posts}) == len(posts)
    assert len({member["display_name"] for member in members}) == len(members)
    assert {post.get("kind", "note") for post in posts} == {
        "note", "question", "event", "listing", "alert", "link",
    }  # fmt: skip
    written = {post.text for post in written_posts(Path(make.__file__).parent / "written")}
    assert len(written) >= 120
    assert written <= {post["text"] for post in posts}
    openings = Counter(post["text"][:40] for post in posts)
    assert openings.most_common(1)[0][1] <= 6
    assert not [post for post in posts if re.search(r"[{}]", post["text"] + post.get("title", ""))]


def test_members_engage_with_what_fits_and_with_what_stands_first():
    """The log has a taste and a position bias to be found, as a real one has."""
    shown, done = lines("impressions"), lines("engagements")
    kinds = Counter(line["kind"] for line in done)
    clicked = {(line["member"], line["post"]) for line in done if line["kind"] == "click"}

    def rate(rows):
        return sum((row["member"], row["post"]) in clicked for row in rows) / len(rows)

    assert set(kinds) == {"click", "long_dwell", "like", "share", "hide"}
    assert rate([row for row in shown if row["position"] == 0]) > rate(
        [row for row in shown if row["position"] >= 4]
    )
    follows = {(line["member"], line["target"]) for line in lines("follows")}
    author = {post["external_id"]: post["author"] for post in lines("posts")}
    followed = [row for row in shown if (row["member"], author[row["post"]]) in follows]
    others = [row for row in shown if (row["member"], author[row["post"]]) not in follows]
    assert rate(followed) > 1.3 * rate(others)


def test_the_committed_files_are_what_the_generator_makes(tmp_path, monkeypatch):
    """Whoever changes a text runs `python -m millrace.world.small.make`."""
    monkeypatch.setattr(make, "DATA", tmp_path)
    make.main()

    for path in sorted(FOLDER.glob("*.jsonl")):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), f"{path.name}: run make.py"
