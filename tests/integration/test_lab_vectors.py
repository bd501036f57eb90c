"""What the lab says that prompts say, in memory, beside what an installation makes of the same."""

from datetime import timedelta

import numpy as np
import psycopg
import pytest
from msgspec.structs import replace

from millrace.community.testing import Rooms
from millrace.community.types import Action, EngagementDraft, Key
from millrace.feed import record
from millrace.feed.embeddings import Embeddings
from millrace.feed.pooled_history import PooledHistory, counted_from, days_between
from millrace.feed.prompts import v2
from millrace.feed.prompts.types import prompt_hash
from millrace.feed.slot_table import microseconds
from millrace.feed.testing import FakeEncoder, feeding, parts_for
from millrace.feed.turns import Urgency
from millrace.kernel.clock import ManualClock
from millrace.lab.dataset import Keys, load
from millrace.lab.exam import World
from millrace.lab.exams import of_town
from millrace.lab.pools import pools_at
from millrace.lab.prompt_facts import PromptFacts
from millrace.lab.vectors import prompts_at
from millrace.world.loader import silent
from millrace.world.simulator.types import TownConfig

pytestmark = pytest.mark.services
TOWN = TownConfig(
    seed=11, communities=2, members=24, posts=120, impressions=350, days=4, popularity=1.0
)
POSTS = "select community_id, post_id, prompt_hash, percentiles[1] from post_embedding"
MEMBERS = "select community_id, member_id, prompt_hash from member_embedding"


def stored(conninfo: str, query: str) -> dict[Key, tuple]:
    with psycopg.connect(conninfo) as session:
        rows = session.execute(query).fetchall()
    return {Key(community, identity): tuple(rest) for community, identity, *rest in rows}


def newest_record(conninfo: str):
    """The record of the newest served feed."""
    with psycopg.connect(conninfo) as session:
        row = session.execute(
            "select record from served_feed order by served_feed_id desc limit 1"
        ).fetchone()
    return record.decode(row[0])


async def test_prompts_of_a_moment_are_those_of_an_installation(router, conninfo):
    """Goal: an evaluation without a database reads what a member's encoder would have read."""
    exam = of_town(TOWN, silent)
    at = exam.questions[0].at
    world = World(exam.data, exam.live_days)
    reader = next(one for one in world.done.astype(int).tolist() if world.day(at) > one[0] + 1)[1]
    home, name = world.members[reader]
    liked = int(world.done[world.done[:, 1] == reader][0, 2])
    exam.data.engagements.append(  # so that an author falls out of a history
        (
            home,
            EngagementDraft(
                member=name,
                post=world.posts[liked][1],
                kind=Action.BLOCK,
                happened_at=at - timedelta(hours=1),
            ),
        )
    )
    rooms = Rooms(router, ManualClock(at))
    keys, encoder = Keys(), FakeEncoder(tokens_max=120)
    await load(rooms, exam.data, keys, None, at)
    embeddings = Embeddings(parts_for(rooms, conninfo, encoder=encoder))
    posts = {Key(keys.communities[one[0]], key): one for one, key in keys.posts.items()}
    members = {Key(keys.communities[one[0]], key): one for one, key in keys.members.items()}
    await embeddings.embed_posts(list(posts))
    await embeddings.embed_members(list(members), Urgency.BACKLOG, known=False)

    world = World(exam.data, exam.live_days)
    facts = PromptFacts(world)
    found = prompts_at(facts, at, [world.member_of[one] for one in members.values()], [], encoder)
    told = facts.posts([world.post_of[one] for one in posts.values()], at)

    expected = stored(conninfo, POSTS)
    assert len(told) > 60
    for key, one in zip(posts, told, strict=True):
        name, age = expected[key]
        # The database divides to fewer digits, so an age may fall to the other side of its equal.
        assert abs(one.age_percentile - age) <= 4
        assert name == prompt_hash(v2.post_prompt(replace(one, age_percentile=age)))
    said = dict(zip(members, map(prompt_hash, found.member_prompts), strict=True))
    assert len(said) > 15
    assert stored(conninfo, MEMBERS) == {key: (name,) for key, name in said.items()}


async def test_what_is_pooled_at_a_moment_is_what_a_feed_pools(router, conninfo):
    """Goal: an evaluation without a database pools the posts that a member's feed would have pooled."""
    exam = of_town(TOWN, silent)
    at, how = exam.questions[0].at, PooledHistory(posts_max=3)
    world = World(exam.data, exam.live_days)
    members, sizes = np.unique(world.done[world.done[:, 0] <= world.day(at), 1], return_counts=True)
    asked = members[np.argsort(-sizes)][:4].astype(int).tolist()
    home, name = world.members[asked[0]]
    newest = world.done[(world.done[:, 1] == asked[0]) & (world.done[:, 0] <= world.day(at))][-1]
    exam.data.engagements.append(
        (
            home,
            EngagementDraft(
                member=name,
                post=world.posts[int(newest[2])][1],
                kind=Action.HIDE,
                happened_at=at - timedelta(minutes=5),
            ),
        )
    )
    exam.data.engagements.sort(key=lambda one: one[1].happened_at)
    rooms, keys = Rooms(router, ManualClock(at)), Keys()
    await load(rooms, exam.data, keys, None, at)
    posts = {Key(keys.communities[one[0]], key): one for one, key in keys.posts.items()}
    pooled = {}
    async with feeding(rooms, conninfo, encoder=FakeEncoder(history=how)) as feed:
        await feed.settled()
        for member in asked:
            named = world.members[member]
            key = Key(keys.communities[named[0]], keys.members[named])
            await feed.page(key)
            await feed.settled()
            pooled[member] = newest_record(conninfo).pooled

    world = World(exam.data, exam.live_days)
    found = pools_at(PromptFacts(world), at, asked, how)
    assert {len(one.posts) for one in found.liked.values()} >= {3}
    assert int(newest[2]) not in found.liked[asked[0]].posts
    for member, told in pooled.items():
        assert [world.post_of[posts[one]] for one in told.posts] == found.liked[member].posts
        ages = days_between(np.array(told.at), counted_from(microseconds(at), how))
        assert found.liked[member].ages_days == pytest.approx(ages, abs=1e-6)
