"""Whatever happens, in whatever order: no example knows its own future, and a leak is found."""

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.community.types import Key
from millrace.feed.examples import leaks
from millrace.feed.examples.cutting import Cutter
from millrace.feed.examples.rows import BirthRow, DeedRow, LineRow, Logged, MomentRow, ProfileRow
from millrace.feed.examples.types import FORMAT, ExportPlan, Manifest
from millrace.feed.examples.writing import files, fingerprint_of, opened
from millrace.feed.prompt_lines import MemberSaid, PostSaid, encode

arrow = import_module("pyarrow")  # it tells no types

HOME, MODEL = 7, "tiny-1"
START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = 1_000_000
HOUR = 3600 * SECOND
WINDOW = HOUR  # answers are waited for so long
AHEAD = 2 * HOUR  # of the clocks of members, in what a record says that they did
PEOPLE, POSTS = 4, 6
DEEDS = ("click", "like", "comment", "share", "hide")


def instant(moment: datetime) -> int:
    return int(moment.timestamp()) * SECOND


BEGIN = instant(START)
END = BEGIN + 40 * 86_400 * SECOND

person = st.integers(1, PEOPLE)
post = st.integers(1, POSTS)
time = st.integers(0, 30 * 24 * 60).map(lambda minute: BEGIN + (minute + 1) * 60 * SECOND)
deed = st.tuples(st.just("deed"), time, person, post, st.sampled_from(DEEDS))
follow = st.tuples(st.just("follow"), time, person, person, st.just("follow"))
edit = st.tuples(st.just("edit"), time, post, st.text("abc ", max_size=6), st.integers(0, 99))
visit = st.tuples(
    st.just("visit"),
    time,
    person,
    st.lists(post, min_size=1, max_size=4, unique=True),
    st.sampled_from([False, "prompt", "pooled"]),
)
log = st.lists(st.one_of(deed, follow, edit, visit), max_size=40)


class World:
    """A log that may be cut off anywhere: what is in it is what the tables would hold by then."""

    def __init__(self, happened):
        first = [("edit", BEGIN + n * HOUR + 1, n, "first", 50) for n in range(1, POSTS + 1)]
        self.happened = sorted([*first, *happened], key=lambda one: (one[1], repr(one)))

    def rows(self, until):
        """Everything before a time, in the order in which an export hears of it."""
        found = [
            (row.at, 1, place, row) for place, row in enumerate(self._births()) if row.at < until
        ]
        feed = 0
        for place, (kind, at, *what) in enumerate(self.happened):
            if kind == "visit":
                feed += 1
                found += [
                    (one[0], one[1], place, one[2]) for one in self._visit(feed, at, what, until)
                ]
            elif at >= until:
                continue
            elif kind == "edit":
                found.append((at, 2, place, self._edit(at, place, *what)))
            else:
                found.append((at, 3, place, DeedRow(at, HOME, what[0], HOME, what[1], what[2])))
        return [row for *_, row in sorted(found, key=lambda one: one[:3])]

    def _births(self):
        for number in range(1, POSTS + 1):
            yield BirthRow(
                at=BEGIN + number * HOUR, community_id=HOME, post_id=number,
                author_id=1 + number % PEOPLE, kind="note", title=f"Title {number}", text="words",
                topics=[], author_name="Ann", headline="", community_name="Home", said=None,
            )  # fmt: skip

    def _edit(self, at, place, number, text, percentile, model=MODEL):
        said = PostSaid(
            kind="note", author_name="Ann", headline="", community="Home", topics=[], title=text,
            text="", percentiles=[percentile] * 6, numbers=[percentile] * 6,
        )  # fmt: skip
        return LineRow(
            at=at, made_at=at - 1, thing_kind="post", community_id=HOME, thing_id=number,
            model_version=model, position=place, facts=encode(said),
        )  # fmt: skip

    def deeds_of(self, member, until):
        """What a member liked to do before a time."""
        return [
            o
            for o in self.happened
            if o[0] == "deed" and o[1] < until and o[2] == member and o[4] != "hide"
        ]

    def pooled(self, row):
        """What the record of a feed says that was pooled; the clocks of members run ahead a little."""
        visit = next(o for o in self.happened if o[:3] == ("visit", row.at, row.member_id))
        if visit[4] != "pooled":
            return None
        newest = {}
        for o in reversed(self.deeds_of(row.member_id, row.at + AHEAD)):
            newest.setdefault(Key(HOME, o[3]), o[1])
        return list(newest.items())

    def _visit(self, feed, at, what, until):
        """A moment, if its answers are complete, and its impressions; a logged one has a prompt."""
        member, posts, logged = what
        if at < until:
            yield from (
                (at, 3, DeedRow(at, HOME, member, HOME, number, "shown")) for number in posts
            )
        if logged and at - 1 < until:
            liked = [o[3] for o in self.deeds_of(member, at - 1)] if logged == "prompt" else []
            said = MemberSaid(
                display_name="Bob", headline="", about="", skills=[], place="", languages=[],
                liked=list(dict.fromkeys(reversed(liked))), communities=[], shown=0,
            )  # fmt: skip
            yield at - 1, 2, LineRow(
                at=at - 1, made_at=at - 1, thing_kind="member", community_id=HOME, thing_id=member,
                model_version=MODEL, position=feed, facts=encode(said),
            )  # fmt: skip
        if at + WINDOW > until:
            return
        answered = {
            o[3]
            for o in self.happened
            if o[0] == "deed" and o[2] == member and o[4] != "hide" and at <= o[1] < at + WINDOW
        }
        yield at, 0, MomentRow(
            at=at, community_id=HOME, member_id=member, post_communities=[HOME] * len(posts),
            post_ids=posts, positions=list(range(len(posts))),
            engaged=[number in answered for number in posts], labelled_until=at + WINDOW,
            served_feed_id=feed if logged else 0, served_at=START if logged else None,
        )  # fmt: skip


def cut(happened, until, folder):
    """Cut a log as it is at a time; return the folder and its manifest."""
    plan = ExportPlan(until=datetime.fromtimestamp(until / SECOND, UTC), label_hours=1.0)
    tables = opened(folder, "arrow")
    cutter, world = Cutter(plan, tables), World(happened)
    for row in world.rows(until):
        if isinstance(row, BirthRow):
            cutter.birth(row)
        elif isinstance(row, LineRow):
            cutter.line(row)
        elif isinstance(row, DeedRow):
            cutter.deed(row)
        else:
            logged = None
            if row.served_at is not None:
                logged = Logged(
                    encoder=MODEL, position=row.served_feed_id, features=None,
                    liked=world.pooled(row),
                )  # fmt: skip
            profile = ProfileRow(
                community_id=HOME, member_id=row.member_id, display_name="Bob", headline="",
                about="", skills=[], place="", languages=[], said=None,
            )  # fmt: skip
            cutter.moment(row, logged, profile)
    tables.close()
    return folder, Manifest(
        format=FORMAT, made_at=START, cut_at=plan.until, label_hours=1.0, prompt_version="v2",
        encoding="arrow", tables=files("arrow"), fingerprint=fingerprint_of(folder, files("arrow")),
        counts=cutter.counts(0), feature_names=[], assumed=[],
    )  # fmt: skip


def table(folder, name):
    with arrow.OSFile(str(folder / f"{name}.arrow")) as file:
        return arrow.ipc.open_file(file).read_all()


def picked(folder, name, rows):
    """Some rows of a table."""
    return table(folder, name).take(arrow.array(sorted(rows), arrow.int32()))


@pytest.fixture
def scratch(tmp_path):
    """A maker of empty folders."""

    def made():
        return Path(tempfile.mkdtemp(dir=tmp_path))

    return made


SLOW = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@SLOW
@given(happened=log, until=time)
def test_what_comes_later_changes_nothing(happened, until, scratch):
    """Goal: a log that ends earlier gives the beginning of the same tables, to the byte."""
    early, _ = cut(happened, until, scratch())
    whole, _ = cut(happened, END, scratch())

    first = table(early, "moments")
    later = table(whole, "moments")
    assert later.slice(0, first.num_rows).equals(first)
    assert all(
        instant(one) > until for one in later["labelled_until"][first.num_rows :].to_pylist()
    )
    states = {
        state
        for name in ("positives", "past", "shown")
        for row in first[name].to_pylist()
        for state in row
    }
    words = picked(early, "posts", states)["wording"].to_pylist()
    for name, rows in (
        ("posts", states), ("wordings", set(words)), ("members", set(first["member_state"].to_pylist())),
    ):  # fmt: skip
        assert picked(whole, name, rows).equals(picked(early, name, rows))
    shutil.rmtree(early)
    shutil.rmtree(whole)


@SLOW
@given(happened=log)
def test_nothing_that_is_cut_leaks(happened, scratch):
    """Goal: whatever happened, the check that trusts nobody finds nothing."""
    folder, manifest = cut(happened, END, scratch())

    assert leaks.leaks_of(folder, manifest) == []
    moments, posts = table(folder, "moments").to_pylist(), table(folder, "posts").to_pylist()
    for one in moments:
        assert one["known_until"] < one["at"]
        assert all(posts[state]["known_at"] < one["at"] for state in one["shown"] + one["past"])
    shutil.rmtree(folder)


HAPPENED = [
    ("visit", BEGIN + 86_400 * SECOND, 1, [1, 2, 5], False),
    ("deed", BEGIN + 86_460 * SECOND, 1, 1, "click"),
    ("visit", BEGIN + 2 * 86_400 * SECOND, 1, [3, 6], "prompt"),
    ("deed", BEGIN + (2 * 86_400 + 60) * SECOND, 1, 6, "like"),
    ("visit", BEGIN + 4 * 86_400 * SECOND, 1, [2, 3], False),
]


def planted(folder, name, row, **values):
    """Write one row of a table anew, with other values."""
    before = table(folder, name)
    lines = before.to_pylist()
    lines[row] |= values
    after = arrow.Table.from_pylist(lines, schema=before.schema)
    with (
        arrow.OSFile(str(folder / f"{name}.arrow"), "wb") as file,
        arrow.ipc.new_file(file, before.schema) as writer,
    ):
        writer.write_table(after)


def late(at, **by):
    return at + timedelta(**by)


def leak_of(plant, scratch):
    """Plant a leak in good examples; return what the check says."""
    folder, manifest = cut(HAPPENED, END, scratch())
    assert leaks.leaks_of(folder, manifest) == []
    plant(folder, table(folder, "moments").to_pylist(), table(folder, "posts").to_pylist())
    return " ".join(one.rule for one in leaks.leaks_of(folder, manifest))


def later_engagement(folder, moments, posts):
    """The history of the first moment gets what the member did at the second."""
    early = next(n for n, one in enumerate(posts) if one["post_id"] == 6)
    at = late(moments[0]["at"], seconds=-1)
    planted(folder, "moments", 0, positives=[early], positives_at=[at], known_until=at)


PLANTS = {
    "known before it": lambda f, m, p: planted(f, "moments", 1, known_until=m[1]["at"]),
    "a state is of the moment or later": lambda f, m, p: planted(
        f, "posts", m[1]["shown"][0], known_at=late(m[1]["at"], seconds=1)
    ),
    "an engagement of the moment or later": lambda f, m, p: planted(
        f, "moments", 1, positives_at=[late(m[1]["at"], minutes=1)]
    ),
    "has its time": lambda f, m, p: planted(f, "moments", 1, positives_at=[]),
    "known_until is earlier": lambda f, m, p: planted(
        f, "moments", 1, known_until=late(m[1]["positives_at"][0], days=-1)
    ),
    "the answer is given away": lambda f, m, p: planted(
        f, "moments", 1, shown=[*m[1]["positives"], *m[1]["shown"][1:]]
    ),
    "the answer of a later one": later_engagement,
    "answers were not complete": lambda f, m, p: planted(
        f, "moments", 2, labelled_until=late(m[2]["at"], days=60)
    ),
    "a post of their own": lambda f, m, p: planted(
        f,
        "posts",
        m[1]["shown"][0],
        author=table(f, "members").to_pylist()[m[1]["member_state"]]["member"],
    ),
    "not in the order of time": lambda f, m, p: planted(
        f, "moments", 2, at=late(m[0]["at"], hours=-1), known_until=late(m[0]["at"], hours=-2)
    ),
    "a member's state of later": lambda f, m, p: planted(
        f, "members", m[1]["member_state"], known_at=late(m[1]["at"], days=1)
    ),
}


@pytest.mark.parametrize("rule", PLANTS)
def test_a_planted_leak_is_found(rule, scratch):
    """Goal: each way in which the future can come in is seen, and by the rule that names it."""
    found = leak_of(PLANTS[rule], scratch)

    assert ("a state is of the moment or later" if "member's" in rule else rule) in found


def test_tables_that_were_changed_afterwards_are_refused(scratch):
    """Goal: what was cut and what is read are the same bytes."""
    folder, manifest = cut(HAPPENED, END, scratch())
    planted(folder, "moments", 0, positions=[9, 9, 9])

    assert fingerprint_of(folder, manifest.tables) != manifest.fingerprint


def test_a_logged_moment_has_the_states_of_its_own_encoder(scratch):
    """Goal: with two encoders beside each other, each moment says what its own vectors were made of."""
    other = ("edit", BEGIN + 86_400 * SECOND, 6, "by the other", 9, "another-2")
    folder, _ = cut([*HAPPENED, other], END, scratch())
    one = next(one for one in table(folder, "moments").to_pylist() if not one["replayed"])

    posts, wordings = table(folder, "posts").to_pylist(), table(folder, "wordings").to_pylist()
    assert {wordings[posts[state]["wording"]]["title"] for state in one["shown"]} == {"first"}
    assert "by the other" in {wording["title"] for wording in wordings}


def test_a_pooled_moment_has_the_history_that_was_pooled(scratch):
    """Goal: posts and times of the record, oldest first; not what the log knows besides."""
    day = 86_400 * SECOND
    happened = [
        ("deed", BEGIN + day, 1, 6, "click"),
        ("deed", BEGIN + 2 * day, 1, 2, "like"),
        ("deed", BEGIN + 3 * day, 1, 6, "comment"),
        ("visit", BEGIN + 4 * day, 1, [3, 5], "pooled"),
        ("deed", BEGIN + 4 * day + HOUR // 2, 1, 3, "click"),
    ]
    folder, manifest = cut(happened, END, scratch())
    (one,) = table(folder, "moments").to_pylist()
    posts = table(folder, "posts").to_pylist()

    assert leaks.leaks_of(folder, manifest) == []
    assert [posts[state]["post_id"] for state in one["positives"]] == [2, 6]
    assert [instant(when) for when in one["positives_at"]] == [BEGIN + 2 * day, BEGIN + 3 * day]
    assert one["engaged"] == [True, False], "what a clock that runs ahead told is no history"


def test_a_feed_is_told_with_the_vector_that_its_record_names(scratch):
    """Goal: a newer vector of the member that was stored before, and not yet used, is not told."""
    plan = ExportPlan(until=datetime.fromtimestamp(END / SECOND, UTC), label_hours=1.0)
    folder = scratch()
    tables = opened(folder, "arrow")
    cutter, world = Cutter(plan, tables), World([])
    at = BEGIN + 86_400 * SECOND
    for row in world.rows(END):
        (cutter.birth if isinstance(row, BirthRow) else cutter.line)(row)
    for position, liked in ((10, [3]), (20, [6, 3])):
        said = MemberSaid(
            display_name="Bob", headline="", about="", skills=[], place="", languages=[],
            liked=liked, communities=[], shown=0,
        )  # fmt: skip
        cutter.line(
            LineRow(
                at=at + position, made_at=at + position, thing_kind="member", community_id=HOME,
                thing_id=1, model_version=MODEL, position=position, facts=encode(said),
            )
        )  # fmt: skip
    for place, position in enumerate((15, 20, 99)):
        moment = MomentRow(
            at=at + 1_000 + place, community_id=HOME, member_id=1, post_communities=[HOME],
            post_ids=[2], positions=[0], engaged=[False], labelled_until=at + 1_000 + WINDOW,
            served_feed_id=1, served_at=START,
        )  # fmt: skip
        cutter.moment(moment, Logged(encoder=MODEL, position=position, features=None), None)
    tables.close()

    posts = table(folder, "posts").to_pylist()
    told = [
        [posts[state]["post_id"] for state in one["positives"]]
        for one in table(folder, "moments").to_pylist()
    ]
    assert told == [[3], [3, 6], [3, 6]]


def test_a_past_impression_says_whether_it_was_answered_by_then(scratch):
    """Goal: an answer of later is not in the past of a moment before it."""
    day = 86_400 * SECOND
    folder, _ = cut(
        [
            ("visit", BEGIN + day, 1, [1, 2], False),
            ("visit", BEGIN + day + 60 * SECOND, 1, [3], False),
            ("deed", BEGIN + day + 120 * SECOND, 1, 1, "like"),
            ("visit", BEGIN + day + 180 * SECOND, 1, [5, 1], False),
            ("visit", BEGIN + day + 240 * SECOND, 1, [2], False),
        ],
        END,
        scratch(),
    )

    answered = [one["past_engaged"] for one in table(folder, "moments").to_pylist()]
    assert answered[:3] == [[], [False, False], [True, False, False]]
    assert answered[3] == [True, False, False, False, True]


def test_numbers_that_no_table_holds_are_the_largest_that_one_does(scratch):
    """Goal: an import with absurd positions or counts does not end an export."""
    plan = ExportPlan(until=datetime.fromtimestamp(END / SECOND, UTC), label_hours=1.0)
    folder = scratch()
    tables = opened(folder, "arrow")
    cutter, world = Cutter(plan, tables), World([])
    for row in world.rows(END):
        (cutter.birth if isinstance(row, BirthRow) else cutter.line)(row)
    moment = MomentRow(
        at=BEGIN + 86_400 * SECOND, community_id=HOME, member_id=1, post_communities=[HOME],
        post_ids=[2], positions=[1 << 30], engaged=[False],
        labelled_until=BEGIN + 86_400 * SECOND + WINDOW,
    )  # fmt: skip
    profile = ProfileRow(
        community_id=HOME, member_id=1, display_name="Bob", headline="", about="", skills=[],
        place="", languages=[], said=None,
    )  # fmt: skip
    assert cutter.moment(moment, None, profile)
    tables.close()

    assert table(folder, "moments").to_pylist()[0]["positions"] == [32_767]
