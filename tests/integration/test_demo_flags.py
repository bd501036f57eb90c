"""The demonstration's flags: a newcomer finds some that work, and finds them only once."""

import pytest

from millrace.cli.demo_flags import EMPLOYEES, FLAGS, bring_flags
from millrace.community.testing import Rooms
from millrace.feed.models import values_of
from millrace.feed.types import App, FeedConfig
from millrace.feed.variants import Variants
from millrace.settings import overlaid, read
from millrace.wiring import FeedSwitches, opened

pytestmark = pytest.mark.services


async def test_they_are_there_once_and_the_feed_obeys_each_of_them(conninfo: str) -> None:
    settings = overlaid(read(None, {}), {"store.primary": conninfo}).settings
    async with opened(settings) as domain:
        rooms = Rooms(domain.router)
        await rooms.people(await rooms.community("town"), *[f"m{n}" for n in range(40)])

        assert await bring_flags(domain)
        assert not await bring_flags(domain)

        await domain.flags.load()
        flags = await domain.flags.list()
        assert [flag.key for flag in flags] == sorted(FLAGS)
        assert {flag.version for flag in flags} == {1}
        variants = Variants(FeedConfig(), values_of(FeedConfig()), FeedSwitches(domain.flags))
        plans = [variants.plan(member.key, App()) for member in await domain.members.sample(40)]
        assert not any(plan.faults for plan in plans)
        assert all(set(plan.variants) == set(FLAGS) for plan in plans)
        inner = [plan for plan in plans if plan.variants["feed.diversity"] == "more"]
        assert len(inner) == EMPLOYEES
        assert {plan.config.exploration_every for plan in inner} == {10}
        usual = FeedConfig().diversity
        assert {plan.config.diversity for plan in plans if plan not in inner} == {usual}
