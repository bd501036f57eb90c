"""Goal: a Stack Exchange dump becomes a community, whatever state the dump is in."""

import json
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from import_state import counts, state

from millrace.community.testing import Rooms
from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import InvalidError
from millrace.world.importers.kinds import bring
from millrace.world.importers.stackexchange import NO_PERSON, import_stackexchange, topics
from millrace.world.rejects import RejectsList

REAL = Path(__file__).parents[3] / "shared" / "data" / "stackexchange_quantum"

USERS = """\
  <row Id="-1" DisplayName="Community" CreationDate="2018-03-09T18:00:00.000" />
  <row Id="7" DisplayName="Ada" CreationDate="2018-03-10T10:00:00.000" Location="Quay" AboutMe="&lt;p&gt;I row.&lt;/p&gt;&lt;p&gt;And bake.&lt;/p&gt;" />
  <row Id="8" DisplayName="Ben" CreationDate="2018-03-10T11:00:00.000" />
"""
POSTS = """\
  <row Id="1" PostTypeId="1" CreationDate="2018-03-12T17:00:00.567" ViewCount="163" Body="&lt;p&gt;Is &lt;code&gt;x&amp;lt;y&lt;/code&gt;?&lt;/p&gt;" OwnerUserId="7" Title="An order" Tags="&lt;order&gt;&lt;q#&gt;" />
  <row Id="2" PostTypeId="2" ParentId="1" CreationDate="2018-03-12T18:00:00.000" Body="&lt;p&gt;Yes.&lt;/p&gt;" OwnerUserId="8" />
  <row Id="3" PostTypeId="5" CreationDate="2018-03-12T18:00:00.000" Body="wiki" OwnerUserId="-1" />
  <row Id="4" PostTypeId="1" CreationDate="2018-03-12T19:00:00.000" ViewCount="1" Body="&lt;p&gt;Gone&lt;/p&gt;" OwnerDisplayName="user306" Title="Gone" Tags="" />
  <row Id="5" PostTypeId="2" ParentId="6" CreationDate="2018-03-12T20:00:00.000" Body="early" OwnerUserId="8" />
  <row Id="6" PostTypeId="1" CreationDate="2018-03-12T19:30:00.000" ViewCount="2" Body="late" OwnerUserId="8" Title="Merged" Tags="|a|b|" />
"""
COMMENTS = """\
  <row Id="1" PostId="1" Text="On the &quot;question&quot;" CreationDate="2018-03-12T18:30:00.000" UserId="8" />
  <row Id="2" PostId="2" Text="On the answer" CreationDate="2018-03-12T18:31:00.000" UserId="7" />
  <row Id="3" PostId="99" Text="On nothing" CreationDate="2018-03-12T18:31:00.000" UserId="7" />
"""
VOTES = """\
  <row Id="1" PostId="1" VoteTypeId="2" CreationDate="2018-03-12T00:00:00.000" />
  <row Id="2" PostId="1" VoteTypeId="5" UserId="8" CreationDate="2018-03-12T00:00:00.000" />
  <row Id="3" PostId="1" VoteTypeId="8" UserId="8" CreationDate="2018-03-12T00:00:00.000" BountyAmount="50" />
"""


def dump(folder, **parts):
    """Write a dump as the site writes it: a byte order mark, a root, a row on each line."""
    folder.mkdir()
    wanted = {"Users": USERS, "Posts": POSTS, "Comments": COMMENTS, "Votes": VOTES} | parts
    for noun, rows in wanted.items():
        if rows is None:
            continue
        root = noun.lower()
        text = f'\ufeff<?xml version="1.0" encoding="utf-8"?>\n<{root}>\n{rows}</{root}>'
        (folder / f"{noun}.xml").write_text(text, encoding="utf-8")
    return folder


async def imported(router, folder):
    rejects = RejectsList()
    report = await import_stackexchange(Rooms(router), folder, rejects=rejects)
    return report, rejects.rows


async def test_a_dump_becomes_a_community(router, conninfo, tmp_path):
    report, rejects = await imported(router, dump(tmp_path / "order"))

    assert [(row.file, row.line, row.field) for row in rejects] == [
        ("Posts.xml", 6, "OwnerUserId"),
        ("Comments.xml", 5, "PostId"),
    ]
    assert report.files["Users.xml"].skipped == {NO_PERSON: 1}
    with psycopg.connect(conninfo) as db:
        member = db.execute(
            "select display_name, headline, about, place, languages from member order by external_id"
        ).fetchone()
        post = db.execute(
            "select kind, title, text, topics, language, created_at, views, comments, likes"
            " from post join post_counter using (community_id, post_id) order by external_id"
        ).fetchone()
        comments = db.execute(
            "select c.external_id, p.external_id, c.text from comment c left join comment p"
            " on p.comment_id = c.parent_id order by c.created_at"
        ).fetchall()
        done = db.execute(
            "select m.external_id, p.external_id, e.kind, e.happened_at from engagement e"
            " join member m using (community_id, member_id) join post p on p.post_id = e.post_id"
            " order by e.happened_at"
        ).fetchall()
    assert member == ("Ada", "I row.", "I row.\n\nAnd bake.", "Quay", ["en"])
    asked = datetime(2018, 3, 12, 17, 0, 0, 567000, UTC)
    assert post == (
        "question", "An order", "Is `x<y`?", ["order", "q#"], "en", asked, 163, 3, 1,
    )  # fmt: skip
    assert comments == [
        ("answer-2", None, "Yes."),
        ("comment-1", None, 'On the "question"'),
        ("comment-2", "answer-2", "On the answer"),
        ("answer-5", None, "early"),
    ]
    assert [line[:3] for line in done] == [
        ("8", "1", "like"), ("8", "1", "comment"), ("8", "1", "comment"),
        ("7", "1", "comment"), ("8", "6", "comment"),
    ]  # fmt: skip
    assert done[0][3] == asked  # a vote knows its day only, and no like is older than its post
    assert counts(conninfo)["reaction"] == 1


async def test_the_same_dump_again_changes_nothing(router, conninfo, tmp_path):
    folder = dump(tmp_path / "order")
    await imported(router, folder)
    before = state(conninfo)

    report, _ = await imported(router, folder)

    assert state(conninfo) == before
    assert all(one.created == one.updated == 0 for one in report.nouns.values())


async def test_comments_and_votes_may_be_absent(router, tmp_path):
    report, _ = await imported(router, dump(tmp_path / "order", Comments=None, Votes=None))

    assert set(report.files) == {"Users.xml", "Posts.xml"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('  <row Id="9" DisplayName="Zoe />\n', "not XML"),
        ('  <row Id="9" DisplayName="&undefined;" CreationDate="2018-03-10T10:00:00" />\n', "not XML"),
        ('  <row Id="9" DisplayName="&#0;" CreationDate="2018-03-10T10:00:00" />\n', "not XML"),
        ('  <row Id="9" Id="9" DisplayName="Z" CreationDate="2018-03-10T10:00:00" />\n', "duplicate"),
        ('  <row DisplayName="Zoe" CreationDate="2018-03-10T10:00:00" />\n', "no Id"),
        ('  <row Id="9" DisplayName="Zoe" CreationDate="yesterday" />\n', "no date"),
        ('  <row Id="9" CreationDate="2018-03-10T10:00:00" />\n', "no DisplayName"),
        ('  <row Id="7" DisplayName="Z" CreationDate="2018-03-10T10:00:00" />\n', "stands"),
        (f'  <row Id="9" DisplayName="{"z" * 200}" CreationDate="2018-03-10T10:00:00" />\n', "200"),
        (f'  <row Id="9" DisplayName="{"z" * (5 << 20)}" />\n', "longer than"),
        ('  <row Id="9"\n DisplayName="Zo<e"\n CreationDate="2018-03-10T10:00:00" />\n', "not XML"),
    ],
)  # fmt: skip
async def test_a_bad_row_costs_one_row(router, tmp_path, row, reason):
    """The rows around it are loaded, and the reject says where and why."""
    first, ada, ben = USERS.splitlines(keepends=True)

    report, rejects = await imported(
        router, dump(tmp_path / "order", Users=first + ada + row + ben)
    )

    faults = [one for one in rejects if one.file == "Users.xml"]
    assert len(faults) == 1, faults
    assert reason in faults[0].reason
    assert faults[0].line in (5, 6)
    assert report.files["Users.xml"].taken == 2
    assert report.exit_status == 8


@pytest.mark.parametrize("keep", [0.2, 0.4, 0.6, 0.8, 0.97])
async def test_a_dump_cut_in_the_middle_says_so(router, tmp_path, keep):
    """What stood before the cut is loaded; a later, whole dump completes it."""
    folder = dump(tmp_path / "order")
    whole = (folder / "Posts.xml").read_bytes()
    (folder / "Posts.xml").write_bytes(whole[: int(len(whole) * keep)])

    report, _ = await imported(router, folder)
    cut = report.files["Posts.xml"]
    assert report.exit_status == 7
    assert "</posts> is missing" in cut.broken
    assert cut.rows == cut.taken + cut.rejected + sum(cut.skipped.values())

    (folder / "Posts.xml").write_bytes(whole)
    report, _ = await imported(router, folder)
    assert report.files["Posts.xml"].broken == ""
    assert report.files["Posts.xml"].taken == 4


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<badges><row Id='1'/></badges>", "root is <badges>"),
        ("nothing of XML", "not XML"),
        ("", "no <users>"),
        ('<!DOCTYPE users [<!ENTITY a "aaaa">]><users><row Id="&a;"/></users>', "document type"),
        ('<?xml version="1.0" encoding="utf-77"?><users/>', "not XML"),
        ("<users" + " " * 100_000 + ">", "no <users>"),
    ],
)
async def test_what_is_no_dump_is_refused_before_anything_is_written(
    router, conninfo, tmp_path, content, reason
):
    folder = dump(tmp_path / "order")
    (folder / "Users.xml").write_text(content)

    with pytest.raises(InvalidError, match=reason):
        await imported(router, folder)

    assert counts(conninfo) == {}


async def test_no_entity_is_ever_expanded(router, tmp_path):
    """A document type that hides behind the first rows stops the file; nothing of it is read."""
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>\n  <row Id="9" DisplayName="&b;" />\n'
    )

    report, rejects = await imported(router, dump(tmp_path / "order", Users=USERS + bomb))

    assert report.files["Users.xml"].taken == 2
    assert [row.file for row in rejects if row.file == "Users.xml"] == ["Users.xml"] * 2


async def test_a_missing_file_is_named(router, tmp_path):
    with pytest.raises(InvalidError, match=r"no Users.xml"):
        await imported(router, dump(tmp_path / "order", Users=None))


def test_topics_of_old_and_new_dumps():
    assert topics("<a><c++>") == topics("|a|c++|") == ["a", "c++"]
    assert topics("") == []


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real dump is not at {REAL}")
async def test_the_real_dump(router, conninfo, tmp_path):
    """Every row of the real dump is taken, left out by a rule, or rejected with a reason."""
    rooms = Rooms(router, SystemClock())
    out = tmp_path / "out.jsonl"
    report = await bring(rooms, "stackexchange", REAL, rejects=out)

    rows = {name: one.rows for name, one in report.files.items()}
    assert rows == {"Users.xml": 3461, "Posts.xml": 1986, "Comments.xml": 3413, "Votes.xml": 12560}
    for one in report.files.values():
        assert one.rows == one.taken + one.rejected + sum(one.skipped.values())
        assert one.broken == ""
    assert report.files["Users.xml"].taken == 3460
    rejects = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert len(rejects) == report.rejected == 16
    assert all(one["reason"] and one["line"] for one in rejects)
    found = counts(conninfo)
    assert (found["member"], found["post"], found["comment"]) == (3460, 611, 4462)
    assert found["reaction"] == 706
    before = state(conninfo)

    again = await bring(rooms, "stackexchange", REAL, rejects=out)

    assert state(conninfo) == before
    assert all(one.created == one.updated == 0 for one in again.nouns.values())
