"""Goal: the log of an internal news feed becomes a community, whatever state its files are in."""

import zipfile
from pathlib import Path

import psycopg
import pytest
from import_state import counts, state

from millrace.community.testing import Rooms
from millrace.kernel.errors import InvalidError
from millrace.world.importers.deskdrop import NO_COUNTERPART, NO_TEXT, TAKEN_BACK, import_deskdrop
from millrace.world.rejects import RejectsList

REAL = Path(__file__).parents[3] / "shared" / "data" / "deskdrop"

ARTICLES = """\
timestamp,eventType,contentId,authorPersonId,authorRegion,authorCountry,url,title,text,lang
1460000000,CONTENT SHARED,-7,11,SP,BR,http://a.example/x,A lock,"How a lock lifts a boat.
Slowly, with water.",en
1460000100,CONTENT SHARED,8,12,,,http://a.example/y,Uma eclusa,Como sobe um barco.,pt
1460000200,CONTENT REMOVED,8,12,,,http://a.example/y,Uma eclusa,Como sobe um barco.,pt
1460000300,CONTENT SHARED,9,12,,,http://a.example/z,Empty,,en
soon,CONTENT SHARED,10,12,,,http://a.example/w,Late,Some text,en
1460000400,CONTENT SHARED,13,12,,,not a link,Odd,An odd link,en
"""
INTERACTIONS = """\
timestamp,eventType,contentId,personId,sessionId,userAgent,userRegion,userCountry
1460000500,VIEW,-7,21,1,,MG,BR
1460000500,VIEW,-7,21,1,,MG,BR
1460000510,LIKE,-7,21,1,,MG,BR
1460000520,COMMENT CREATED,8,11,1,,,
1460000530,BOOKMARK,8,21,1,,,
1460000540,FOLLOW,8,21,1,,,
1460000550,VIEW,99,22,1,,,
1460000560,DANCE,8,21,1,,,
99999999999999999999,VIEW,8,21,1,,,
1460000570,VIEW,8,,1,,,
"""


def log(folder, *, articles=ARTICLES, interactions=INTERACTIONS, packed=False):
    """Write a folder as it is downloaded."""
    folder.mkdir(exist_ok=True)
    if articles is not None:
        (folder / "shared_articles.csv").write_text(articles, encoding="utf-8")
    if interactions is not None and packed:
        with zipfile.ZipFile(folder / "users_interactions.csv.zip", "w") as made:
            made.writestr("users_interactions.csv", interactions)
    elif interactions is not None:
        (folder / "users_interactions.csv").write_text(interactions, encoding="utf-8")
    return folder


async def imported(router, folder):
    rejects = RejectsList()
    report = await import_deskdrop(Rooms(router), folder, rejects=rejects)
    return report, rejects.rows


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "zip"])
async def test_a_log_becomes_a_community(router, conninfo, tmp_path, packed):
    report, rejects = await imported(router, log(tmp_path / "office", packed=packed))

    assert [(row.line, row.field) for row in rejects] == [
        (4, "text"),
        (5, "timestamp"),
        (6, "link"),
        (8, "eventType"),
        (9, "timestamp"),
        (10, "personId"),
    ]
    skipped = {
        reason: count for file in report.files.values() for reason, count in file.skipped.items()
    }
    assert skipped == {
        TAKEN_BACK: 1, NO_TEXT: 1, NO_COUNTERPART["BOOKMARK"]: 1, NO_COUNTERPART["FOLLOW"]: 1,
    }  # fmt: skip
    for file in report.files.values():
        assert file.rows == file.taken + file.rejected + sum(file.skipped.values())
    with psycopg.connect(conninfo) as db:
        posts = db.execute(
            "select external_id, kind, title, language, clicks, likes from post"
            " join post_counter using (community_id, post_id) order by external_id"
        ).fetchall()
        members = db.execute("select external_id, place from member order by 1").fetchall()
        kinds = db.execute("select kind, count(*) from engagement group by 1 order by 1").fetchall()
    assert posts == [("-7", "link", "A lock", "en", 1, 1), ("8", "link", "Uma eclusa", "pt", 0, 0)]
    assert members == [("11", "SP, BR"), ("12", ""), ("21", "MG, BR")]
    assert kinds == [("click", 1), ("comment", 1), ("like", 1)]


async def test_again_changes_nothing(router, conninfo, tmp_path):
    folder = log(tmp_path / "office")
    await imported(router, folder)
    before = state(conninfo)

    report, _ = await imported(router, folder)

    assert state(conninfo) == before
    assert all(noun.created == noun.updated == 0 for noun in report.nouns.values())


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"articles": None}, "shared_articles.csv"),
        ({"interactions": None}, "users_interactions.csv"),
        ({"articles": "a,b\n1,2\n"}, "contentId"),
        ({"interactions": ""}, "personId"),
    ],
    ids=["no articles", "no interactions", "other columns", "empty"],
)
async def test_what_is_no_log_is_refused_before_anything_is_written(
    router, conninfo, tmp_path, parts, named
):
    with pytest.raises(InvalidError, match=named):
        await imported(router, log(tmp_path / "office", **parts))

    assert not any(counts(conninfo).values())


async def test_a_file_without_its_end_is_broken_and_the_rest_is_kept(router, tmp_path):
    folder = log(tmp_path / "office")
    with (folder / "users_interactions.csv").open("ab") as file:
        file.write(b"1460000600,VIEW,8,21,1,,,\n" * 1_000)  # the fault lies far behind the header
        file.write(b"1460000700,VIEW,8,2\xff1,1,,,\n")

    report, _ = await imported(router, folder)

    assert "cannot be read any further" in report.files["users_interactions.csv"].broken
    assert report.nouns["posts"].created == 2
    assert report.files["users_interactions.csv"].taken > 0


@pytest.mark.skipif(not REAL.is_dir(), reason="the real log is not beside this checkout")
async def test_the_real_log(router, conninfo):
    report, rejects = await imported(router, REAL)

    assert rejects == []
    assert report.nouns["posts"].created == 214
    assert report.nouns["members"].created == 1_641
    done = report.nouns["engagements"]
    assert done.created + done.unchanged == 24_433 - 863 - 503
