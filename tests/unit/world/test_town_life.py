"""Goal: a living town acts by its truth, writes in its own words, and is bounded."""

import asyncio
from datetime import timedelta
from functools import cache

import numpy as np
import pytest

from millrace.community.types import POSITIVE_ACTIONS, PostKind
from millrace.kernel.clock import ManualClock
from millrace.kernel.errors import UnavailableError
from millrace.world.simulator.client import Bucket
from millrace.world.simulator.living import Life
from millrace.world.simulator.making import make
from millrace.world.simulator.ports import Met
from millrace.world.simulator.recognising import topics_of
from millrace.world.simulator.topic import topics
from millrace.world.simulator.types import DAY, TownConfig

CONFIG = TownConfig(
    seed=3, members=80, posts=300, impressions=1000, days=4, communities=2, noise=0.0
)


def silent(_what, _count, _of):
    """Watch nothing."""


@cache
def town():
    """Make a small town, once."""
    return make(CONFIG, silent)


class FakeDoor:
    """A feed in memory: shows what it is given, and keeps what it is told."""

    def __init__(self, rows=None, strangers=()):
        made = town()
        self.rows = range(len(made.posts)) if rows is None else rows
        self.strangers = list(strangers)
        self.seen = []
        self.deeds = []
        self.comments = []
        self.written = []
        self.away = False
        self._chance = np.random.default_rng(1)

    async def feed(self, member, count):
        """Show posts by chance."""
        if self.away:
            raise UnavailableError("the feed is away")
        made = town()
        drawn = self._chance.choice(
            np.array(self.rows), size=min(count, len(self.rows)), replace=False
        )
        page = [
            Met(
                id=f"p{row}", row=int(row), author=made.posts[row].author, kind=made.posts[row].kind,
                title="", text=made.posts[row].text, topics=[],
                created=made.config.start + timedelta(seconds=made.posts[row].created), position=at,
            )
            for at, row in enumerate(drawn)
        ]  # fmt: skip
        return [*self.strangers, *page]

    async def shown(self, member, page):
        """Keep what was shown."""
        self.seen += [(member, met) for met in page]

    async def did(self, member, deeds):
        """Keep what was done."""
        self.deeds += [(member, deed) for deed in deeds]

    async def comment(self, member, met, text):
        """Keep what was said."""
        self.comments.append((member, met, text))

    async def write(self, member, draft):
        """Keep what was written."""
        self.written.append((member, draft))
        return f"new{len(self.written)}"


def life(door, clock=None, **changed):
    """Return a life at a door, at the end of the town's past."""
    members = changed.pop("members", range(CONFIG.members))
    return Life(town(), door, clock=clock or ManualClock(CONFIG.end), members=members, **changed)


def paused(clock):
    """Return a pause that moves a clock."""

    async def pause(seconds):
        clock.move(seconds)
        await asyncio.sleep(0)

    return pause


async def test_people_do_what_their_tastes_say():
    """Over many visits, posts that meet an interest are engaged with far more than others."""
    door = FakeDoor()
    living = life(door)
    for number in range(600):
        await living.visit(number % CONFIG.members)

    truth = town().truth
    liked = {
        (member, deed.met.row) for member, deed in door.deeds if deed.action in POSITIVE_ACTIONS
    }
    rates = {True: [], False: []}
    for member, met in door.seen:
        fit = truth.fit(np.array([member]), np.array([[met.row]]), np.array([4.0 * DAY]))[0, 0]
        if fit > 0.6 or fit < 0.05:
            rates[bool(fit > 0.6)].append((member, met.row) in liked)

    assert len(rates[True]) > 100
    assert np.mean(rates[True]) > 4 * np.mean(rates[False])
    assert living.lived.shown == len(door.seen)
    assert all(met.author != member for member, met in door.seen), "nobody reads their own posts"


async def test_a_life_runs_in_the_time_of_its_clock():
    """A simulated day passes in no time, as busy as the past was; and is the same each time."""
    told = []
    for _ in range(2):
        clock = ManualClock(CONFIG.end)
        door = FakeDoor()
        living = life(door, clock)
        visits, posts = living.rates()

        await living.run(paused(clock), seconds=DAY)

        assert (clock.now() - CONFIG.end).total_seconds() == pytest.approx(DAY, abs=1)
        assert living.lived.feeds == pytest.approx(visits * DAY, rel=0.5)
        assert living.lived.posts == pytest.approx(posts * DAY, rel=0.5)
        told.append((str(living.lived), door.written, door.comments))
    assert told[0] == told[1]


async def test_speed_is_how_often_people_come():
    slow, quick = life(FakeDoor(), speed=1.0).rates(), life(FakeDoor(), speed=10.0).rates()

    assert quick == pytest.approx([10 * one for one in slow])


async def test_only_those_come_who_are_asked():
    clock = ManualClock(CONFIG.end)
    door = FakeDoor()
    living = life(door, clock, members=[3, 4, 5], speed=20.0)

    await living.run(paused(clock), seconds=DAY)

    assert {member for member, _ in door.seen} <= {3, 4, 5}
    assert door.seen


async def test_what_fails_is_counted_and_left():
    clock = ManualClock(CONFIG.end)
    door = FakeDoor()
    door.away = True
    living = life(door, clock)

    await living.run(paused(clock), seconds=DAY)

    assert living.lived.failed > 0
    assert living.lived.feeds == 0


async def test_people_write_about_what_they_care_for():
    """Texts of the town's own words, by people who write, about their interests of the moment."""
    door = FakeDoor()
    living = life(door)
    for member in range(40):
        await living.post(member)

    assert len({draft.text for _, draft in door.written}) == 40
    fits = [
        town().truth.interests(member, 4.0 * DAY)[topics_of(draft.topics, draft.text)[0]]
        for member, draft in door.written
        if topics_of(draft.topics, draft.text)
    ]
    assert len(fits) > 30
    assert np.mean(np.array(fits) > 0) > 0.7


async def test_a_stranger_s_post_is_judged_by_its_words():
    """A post of a real visitor meets the interests that its tags or words tell."""
    cares = [town().truth.interests(one, 4.0 * DAY) for one in range(CONFIG.members)]
    fan = int(np.argmax([one.max() for one in cares]))
    about = topics()[int(cares[fan].argmax())]
    stranger = Met(
        id="visitor", row=-1, author=-1, kind=PostKind.NOTE, title="", text="Come and see.",
        topics=[about.name], created=CONFIG.end, position=0,
    )  # fmt: skip
    met = []
    for tags in ([about.name], []):
        door = FakeDoor(rows=[0], strangers=[])
        living = life(door, seed=2)
        door.strangers = [
            Met(
                **{name: getattr(stranger, name) for name in Met.__struct_fields__}
                | {"topics": tags}
            )
        ]
        for _ in range(150):
            await living.visit(fan)
        met.append(sum(deed.met.id == "visitor" for _, deed in door.deeds))

    assert met[0] > 2 * met[1]


def test_words_tell_topics():
    """Posts that the town wrote without tags are mostly recognised by their words."""
    made = town()
    right = [
        int(made.truth.traits.topics[at, 0]) in topics_of([], f"{post.title} {post.text}")
        for at, post in enumerate(made.posts)
    ]

    assert np.mean(right) > 0.6
    assert topics_of([], "Nothing to say.") == ()


def test_a_bucket_lets_so_many_through_a_second():
    clock = ManualClock(CONFIG.end)
    bucket = Bucket(clock, rate=5.0)
    waits = [bucket.wait() for _ in range(30)]

    assert waits[0] == pytest.approx(0.2, abs=0.2)
    assert waits[-1] == pytest.approx(30 / 5.0, abs=2.1)
    clock.move(1000)
    burst = [bucket.wait() for _ in range(5)]
    assert burst == [0.0] * 5
