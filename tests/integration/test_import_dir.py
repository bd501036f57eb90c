"""Goal: a folder in the open format comes in whole, twice without a change, faults set aside."""

import gzip
import json
from datetime import UTC, datetime, timedelta

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from import_state import counts, state, write_lines

from millrace.community.testing import NOON, OPERATOR, Rooms
from millrace.kernel.errors import InvalidError, SetupError, UnavailableError
from millrace.world.importers.directory import import_dir
from millrace.world.importers.kinds import bring
from millrace.world.rejects import RejectsList

DAY = "2026-02-0"


def town(folder):
    """A town with every noun: three members, two posts and what they did."""
    write_lines(
        folder,
        "communities",
        {"external_id": "quay", "name": "The Quay", "nearby": ["hill"], "created_at": "2020-01-01"},
        {"external_id": "hill", "name": "The Hill", "nearby": ["quay"], "created_at": "2020-01-01"},
    )
    write_lines(
        folder,
        "members",
        *(
            {"community": "quay", "external_id": name, "display_name": name.title(),
             "joined_at": "2025-01-01T00:00:00Z"}
            for name in ("ada", "ben", "cleo")
        ),
        {"community": "hill", "external_id": "ada", "display_name": "Another Ada",
         "joined_at": "2025-01-01T00:00:00Z"},
    )  # fmt: skip
    write_lines(
        folder,
        "posts",
        {"community": "quay", "external_id": "p1", "author": "ada", "text": "Bread at noon.",
         "topics": ["bread"], "created_at": f"{DAY}1T08:00:00Z", "views": 7},
        {"community": "quay", "external_id": "p2", "author": "ben", "text": "Boats.",
         "kind": "question", "audience": "nearby", "created_at": f"{DAY}2T10:00:00+02:00"},
    )  # fmt: skip
    write_lines(
        folder,
        "comments",
        {"community": "quay", "external_id": "c1", "author": "ben", "post": "p1", "text": "Save me one.",
         "created_at": f"{DAY}1T09:00:00Z"},
        {"community": "quay", "external_id": "c2", "author": "ada", "post": "p1", "text": "I will.",
         "parent": "c1", "created_at": f"{DAY}1T09:05:00Z"},
    )  # fmt: skip
    write_lines(folder, "follows", {"community": "quay", "member": "ben", "target": "ada",
                                    "created_at": f"{DAY}1T09:06:00Z"})  # fmt: skip
    shown = {"community": "quay", "member": "cleo", "post": "p1"}
    write_lines(folder, "impressions", {**shown, "shown_at": f"{DAY}3T08:00:00Z", "position": 2})
    write_lines(
        folder,
        "engagements",
        {**shown, "kind": "click", "happened_at": f"{DAY}3T08:00:09Z", "position": 2},
        {**shown, "kind": "like", "happened_at": f"{DAY}3T08:00:20Z"},
        {**shown, "post": "p2", "kind": "hide", "happened_at": f"{DAY}3T08:00:30Z"},
    )
    return folder


async def imported(router, folder, **options):
    rejects = RejectsList()
    report = await import_dir(Rooms(router), folder, rejects=rejects, **options)
    return report, rejects.rows


async def test_every_noun_comes_in(router, conninfo, tmp_path):
    report, rejects = await imported(router, town(tmp_path / "town"))

    assert rejects == []
    assert report.exit_status == 0
    assert {file: one.taken for file, one in report.files.items()} == {
        "communities.jsonl": 2, "members.jsonl": 4, "posts.jsonl": 2, "comments.jsonl": 2,
        "follows.jsonl": 1, "impressions.jsonl": 1, "engagements.jsonl": 3,
    }  # fmt: skip
    found = counts(conninfo)
    assert found["member"] == 4
    assert found["reaction"] == 1
    assert found["engagement"] == 5  # three of the file, and a comment each of ada and ben
    with psycopg.connect(conninfo) as db:
        one = db.execute(
            "select p.kind, p.audience, p.created_at, c.views, c.likes, c.comments, c.hides"
            " from post p join post_counter c using (community_id, post_id) order by p.created_at"
        ).fetchall()
    assert one[0][3:] == (8, 1, 2, 0)  # seven views brought along, one impression
    assert one[1][:2] == ("question", "nearby")
    assert one[1][2] == datetime(2026, 2, 2, 8, tzinfo=UTC)
    assert one[1][6] == 1


async def test_the_same_again_changes_nothing(router, conninfo, tmp_path):
    folder = town(tmp_path / "town")
    await imported(router, folder)
    before = state(conninfo)

    report, _ = await imported(router, folder)

    assert state(conninfo) == before
    assert all(one.created == one.updated == 0 for one in report.nouns.values())


async def test_a_changed_row_is_an_update_of_that_row_only(router, tmp_path):
    folder = town(tmp_path / "town")
    await imported(router, folder)
    posts = (folder / "posts.jsonl").read_text().replace("Bread at noon.", "Bread at one.")
    (folder / "posts.jsonl").write_text(posts)

    report, _ = await imported(router, folder)

    assert (report.nouns["posts"].updated, report.nouns["posts"].unchanged) == (1, 1)


async def test_parquet_and_gzip_say_the_same(router, conninfo, server, tmp_path):
    """The three spellings of a file end in the same rows."""
    plain = town(tmp_path / "plain")
    await imported(router, plain)
    other = tmp_path / "other"
    other.mkdir()
    for path in plain.iterdir():
        if path.name.startswith(("members", "posts", "engagements")):
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            names = {name for row in rows for name in row}
            whole = [{name: row.get(name) for name in sorted(names)} for row in rows]
            pq.write_table(pa.Table.from_pylist(whole), other / path.with_suffix(".parquet").name)
        else:
            (other / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    first = state(conninfo)

    report, rejects = await imported(router, other)

    assert rejects == []
    assert all(one.created == one.updated == 0 for one in report.nouns.values())
    assert state(conninfo) == first


async def test_parquet_times_may_be_real_times(router, conninfo, tmp_path):
    """A timestamp column without a zone is UTC."""
    folder = town(tmp_path / "town")
    (folder / "posts.jsonl").unlink()
    at = datetime(2026, 2, 1, 8)  # noqa: DTZ001 - this is what a zoneless column holds
    pq.write_table(
        pa.table({"community": ["quay"], "external_id": ["p1"], "author": ["ada"],
                  "text": ["Bread"], "title": [None], "created_at": [at]}),
        folder / "posts.parquet",
    )  # fmt: skip

    report, _ = await imported(router, folder)

    assert report.files["posts.parquet"].taken == 1
    with psycopg.connect(conninfo) as db:
        assert db.execute("select created_at from post").fetchone()[0] == at.replace(tzinfo=UTC)


BAD_POSTS = [
    (b'{"external_id": "x", ', "", "not a JSON object"),
    (b"[1, 2]", "", "not a JSON object"),
    (b'{"external_id": "\xff\xfe"}', "", "not UTF-8"),
    (b'{"a":' + b"[" * 5000, "", "nested"),
    ({"external_id": "x", "author": "ada"}, "text", "required"),
    ({"external_id": "x", "author": "ada", "text": 3}, "text", "Expected `str`"),
    ({"external_id": "x", "author": "ada", "text": "t", "colour": "red"}, "colour", "unknown"),
    ({"external_id": "x", "author": "ada", "text": "t", "kind": "poem"}, "kind", "poem"),
    ({"external_id": "x", "author": "zoe", "text": "t"}, "author", "zoe"),
    ({"external_id": "x", "author": "ada", "text": "nul \0 nul"}, "text", "NUL"),
    ({"external_id": "x", "author": "ada", "text": "t" * 40_001}, "text", "40,001"),
    ({"external_id": "x", "author": "ada", "text": "t", "created_at": "soon"}, "created_at", ""),
    ({"external_id": "x", "author": "ada", "text": "t", "created_at": "2999-01-01"}, "created_at", ""),
    ({"external_id": "x", "author": "ada", "text": "t", "created_at": "-P9D"}, "created_at", "relative"),
    ({"external_id": "x", "author": "ada", "text": "t", "created_at": "-PT"}, "created_at", "relative"),
    ({"external_id": "x", "author": "ada", "text": "t", "views": -1}, "views", "-1"),
    ({"external_id": "x", "author": "ada", "text": "t", "views": 10**30}, "views", ""),
    ({"external_id": "x", "author": "ada", "text": "t", "link": "javascript:1"}, "link", "address"),
    ({"external_id": "p1", "author": "ada", "text": "again"}, "external_id", "stands"),
    ({"external_id": "x", "author": "ada", "text": "t", "community": "moon"}, "community", "moon"),
    ({"external_id": "x", "author": "ada", "text": "t", "community": 7}, "community", "quotes"),
    ({"external_id": "x", "author": "ada", "text": "t", "community": ""}, "community", "several"),
]  # fmt: skip


async def test_bad_rows_are_set_aside_with_their_place(router, conninfo, tmp_path):
    """Each fault is named by line and field; every good row beside it is loaded."""
    folder = town(tmp_path / "town")
    good = (folder / "posts.jsonl").read_bytes().splitlines()
    bad = [
        row if isinstance(row, bytes) else json.dumps({"community": "quay", **row}).encode()
        for row, _, _ in BAD_POSTS
    ]
    (folder / "posts.jsonl").write_bytes(b"\n".join([good[0], *bad, b"", good[1]]) + b"\n")
    out = tmp_path / "out.jsonl"

    report = await bring(Rooms(router), "dir", folder, rejects=out)

    rows = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert report.exit_status == 8
    assert report.files["posts.jsonl"].skipped == {"blank line": 1}
    assert report.files["posts.jsonl"].rows == len(bad) + 3
    assert [row["line"] for row in sorted(rows, key=lambda row: row["line"])] == [
        *range(2, len(bad) + 2)
    ]
    for row in rows:
        _, field, part = BAD_POSTS[row["line"] - 2]
        assert row["file"] == "posts.jsonl"
        assert row["field"].startswith(field), row
        assert part in row["reason"], row
        assert set(row) == {"file", "line", "column", "field", "reason", "row"}
    assert next(row for row in rows if row["line"] == 2)["column"] > 0
    assert counts(conninfo)["post"] == 2


async def test_a_name_is_free_again_when_its_first_row_was_rejected(router, tmp_path):
    """The first good row of a name is taken, wherever the bad ones stand."""
    folder = town(tmp_path / "town")
    post = {"community": "quay", "external_id": "p1", "author": "ada", "text": "t"}
    write_lines(folder, "posts", {**post, "author": "zoe"}, post, {**post, "text": "later"})

    report, rejects = await imported(router, folder)

    assert report.files["posts.jsonl"].taken == 1
    assert [(row.line, row.field) for row in rejects if row.file == "posts.jsonl"] == [
        (1, "author"), (3, "external_id"),
    ]  # fmt: skip


async def test_a_clean_run_leaves_no_rejects_file(router, tmp_path):
    folder, out = town(tmp_path / "town"), tmp_path / "out.jsonl"
    out.write_text("from an earlier run")

    report = await bring(Rooms(router), "dir", folder, rejects=out)

    assert report.rejects_file == ""
    assert list(tmp_path.glob("out*")) == []


async def test_a_rejects_file_that_cannot_be_written_is_said_first(router, conninfo, tmp_path):
    with pytest.raises(SetupError, match="cannot be written"):
        await bring(
            Rooms(router), "dir", town(tmp_path / "town"), rejects=tmp_path / "no" / "out.jsonl"
        )

    assert counts(conninfo) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "members.jsonl").unlink(), "no members.jsonl"),
        (lambda folder: (folder / "members.parquet").write_bytes(b""), "twice"),
        (lambda folder: (folder / "communities.jsonl").unlink(), "no communities file"),
    ],
)
async def test_a_folder_that_is_no_import_is_refused_whole(
    router, conninfo, tmp_path, change, message
):
    folder = town(tmp_path / "town")
    change(folder)

    with pytest.raises(InvalidError, match=message):
        await imported(router, folder)

    assert counts(conninfo) == {}


async def test_a_folder_that_is_not_there(router, tmp_path):
    with pytest.raises(InvalidError, match="cannot be read"):
        await imported(router, tmp_path / "nowhere")


async def test_files_cut_in_the_middle_are_broken_and_the_rest_stands(router, tmp_path):
    """A cut archive says so; what stood before it is loaded."""
    folder = town(tmp_path / "town")
    posts = (folder / "posts.jsonl").read_bytes()
    (folder / "posts.jsonl").unlink()
    (folder / "posts.jsonl.gz").write_bytes(gzip.compress(posts * 200)[:-40])
    (folder / "engagements.jsonl").unlink()
    (folder / "engagements.parquet").write_bytes(b"PAR1 and then nothing")

    report, _ = await imported(router, folder)

    assert report.exit_status == 7
    assert "cannot be read any further" in report.files["posts.jsonl.gz"].broken
    assert report.files["engagements.parquet"].broken
    assert report.files["members.jsonl"].taken == 4


async def test_a_name_stands_in_for_a_communities_file(router, tmp_path):
    folder = town(tmp_path / "town")
    (folder / "communities.jsonl").unlink()
    for path in folder.iterdir():
        path.write_text(path.read_text().replace('"community": "quay", ', ""))

    report, rejects = await imported(router, folder, community="harbour")

    assert list(report.communities) == ["harbour"]
    assert [row.field for row in rejects] == ["community"]  # the one of the hill
    assert report.files["posts.jsonl"].taken == 2


async def test_relative_times_count_back_from_the_first_import(router, conninfo, tmp_path):
    """The demo is fresh on its first day; a week later it is a week old, and unchanged."""
    folder = tmp_path / "demo"
    write_lines(folder, "communities", {"external_id": "quay", "name": "Q", "created_at": "-P10D"})
    write_lines(
        folder, "members", {"external_id": "ada", "display_name": "Ada", "joined_at": "-P9D"}
    )
    write_lines(folder, "posts", {"external_id": "p", "author": "ada", "text": "t",
                                  "created_at": "-P1DT6H"})  # fmt: skip
    rooms = Rooms(router)
    rejects = RejectsList()
    await import_dir(rooms, folder, rejects=rejects)
    before = state(conninfo)
    rooms.clock.move(7 * 86_400 + 3.5)

    report = await import_dir(rooms, folder, rejects=rejects)

    assert rejects.rows == []
    assert state(conninfo) == before
    assert report.nouns["posts"].unchanged == 1
    with psycopg.connect(conninfo) as db:
        made = db.execute("select created_at from post").fetchone()[0]
    assert made == NOON - timedelta(days=1, hours=6)


async def test_a_percentile_knows_what_came_in(router, tmp_path):
    rooms = Rooms(router)
    report = await import_dir(rooms, town(tmp_path / "town"), rejects=RejectsList())

    scales = await rooms.percentiles.scales(report.communities["quay"])
    assert scales.of("views", 1_000) > scales.of("views", 0)


class Learning(Rooms):
    """Rooms with a feed that counts how often it was fitted, and fails when told to."""

    def __init__(self, router, fault=None):
        super().__init__(router)
        self.feed, self.fitted, self.fault = self, 0, fault

    async def fit(self):
        self.fitted += 1
        if self.fault is not None:
            raise self.fault


async def test_a_feed_learns_from_what_came_in_and_not_from_nothing(router, tmp_path):
    folder, rooms = town(tmp_path / "town"), Learning(router)

    report = await import_dir(rooms, folder, rejects=RejectsList())
    again = await import_dir(rooms, folder, rejects=RejectsList())

    assert rooms.fitted == 1
    assert report.learned
    assert not again.learned


@pytest.mark.parametrize("fault", [UnavailableError("the encoder is away"), TimeoutError()])
async def test_a_feed_that_cannot_learn_is_said_and_undoes_nothing(router, tmp_path, fault):
    rooms = Learning(router, fault)

    report = await import_dir(rooms, town(tmp_path / "town"), rejects=RejectsList())

    assert report.exit_status == 0
    assert not report.learned
    assert report.not_learned in ("the encoder is away", "TimeoutError")


async def test_a_community_that_stands_keeps_its_name(router, tmp_path):
    """--community names a community; it does not rename it."""
    rooms = Rooms(router)
    await imported(router, town(tmp_path / "town"))
    folder = tmp_path / "more"
    write_lines(folder, "members", {"external_id": "dan", "display_name": "Dan"})
    write_lines(folder, "posts", {"external_id": "p9", "author": "dan", "text": "Hello."})

    await imported(router, folder, community="quay")

    assert (await rooms.communities.find("quay")).name == "The Quay"
    assert (await rooms.communities.list(OPERATOR))[0].name == "The Hill"
