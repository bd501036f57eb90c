"""Fitting the scorer on what members did, on real PostgreSQL."""

from datetime import timedelta

import pytest

from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import (
    Action,
    Engagement,
    EngagementDraft,
    Impression,
    ImpressionDraft,
)
from millrace.feed.scorer import prior
from millrace.feed.testing import feeding
from millrace.feed.types import FeedConfig, HistoryForm

pytestmark = pytest.mark.services
TOPICS = {"garden": "tomatoes compost seeds soil", "boats": "harbour sail rope tide"}


@pytest.mark.parametrize("history", HistoryForm)
async def test_nothing_to_learn_from_leaves_the_prior(router, conninfo, history):
    """Nearness is spread otherwise where histories are pooled, so that form has a prior of its own."""
    rooms, config = Rooms(router), FeedConfig(fit_minutes=0.0, history=history)
    async with feeding(rooms, conninfo, config=config) as feed:
        report = await feed.fit()

    assert not report.saved
    assert report.scorer_version == prior(pooled=history is HistoryForm.POOLED).version
    assert report.logged == report.replayed == 0
    assert "no action had enough examples" in report.reason


async def test_learns_from_served_feeds_with_the_features_of_then(router, conninfo):
    """Members like one topic alone; logged impressions with their outcomes teach it."""
    rooms = Rooms(router)
    home = await rooms.community("village")
    authors = await rooms.people(home, "gus", "sal")
    readers = await rooms.people(home, *[f"reader{i}" for i in range(20)])
    for place in range(20):
        topic = list(TOPICS)[place % 2]
        await rooms.post(authors[place % 2], f"{TOPICS[topic]} {place}", topics=[topic])
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        for reader in readers:
            page = await feed.page(reader.member, limit=20)
            rooms.clock.move(5)
            shown, done = [], []
            for item in page.items:
                post = item.view.post
                shown.append(
                    Impression(
                        member=reader.member,
                        post=post.key,
                        shown_at=rooms.clock.now(),
                        position=item.position,
                        served_feed_id=page.served_feed_id,
                    )
                )
                if post.kind == "note" and post.post_id % 3 and post.topics == ["garden"]:
                    done.append(
                        Engagement(
                            member=reader.member,
                            post=post.key,
                            kind=Action.CLICK,
                            happened_at=rooms.clock.now(),
                        )
                    )
            await rooms.activity.record(reader, shown, done)

        report = await feed.fit()
        again = await feed.page(readers[0].member, limit=1)
        explained = await feed.why(readers[0].member, again.items[0].view.post.key)

    assert report.logged == 400
    assert report.replayed == 0
    click = next(one for one in report.actions if one.action == "click")
    assert click.positives > 50
    assert click.log_loss is not None
    assert report.saved == any(one.fitted for one in report.actions)
    assert explained.versions["scorer"] == report.scorer_version


async def test_learns_from_imported_engagement_without_impressions(router, conninfo):
    """History as of the moment, negatives that were alive then."""
    rooms = Rooms(router)
    home = await rooms.community("village")
    authors = await rooms.people(home, "gus", "sal")
    readers = await rooms.people(home, *[f"reader{i}" for i in range(12)])
    posts = []
    for place in range(60):
        topic = list(TOPICS)[place % 2]
        rooms.clock.move(3600)
        posts.append(
            await rooms.post(authors[place % 2], f"{TOPICS[topic]} {place}", topics=[topic])
        )
    drafts = [
        EngagementDraft(
            member=f"reader{number}",
            post=post.external_id,
            kind=Action.LIKE,
            happened_at=post.created_at + timedelta(minutes=number + 1),
        )
        for number, _ in enumerate(readers)
        for place, post in enumerate(posts)
        if place % 2 == number % 2 and place % 4 < 2
    ]
    await rooms.activity.upsert_engagements(OPERATOR, home, drafts)
    async with feeding(rooms, conninfo) as feed:
        report = await feed.fit()
        version = report.scorer_version

    like = next(one for one in report.actions if one.action == "like")
    assert report.logged == 0
    assert report.replayed > 500
    assert like.fitted
    assert like.auc >= like.auc_prior  # what was liked may tell all there is to tell
    assert like.log_loss < like.log_loss_prior
    assert version.startswith("pointwise-")


async def test_learns_from_imported_visits_what_members_pass_over(router, conninfo):
    """Visits elsewhere tell what was shown and not engaged with: rates are real, nothing is drawn."""
    rooms = Rooms(router)
    home = await rooms.community("village")
    authors = await rooms.people(home, "gus", "sal")
    readers = [f"reader{number}" for number in range(12)]
    await rooms.people(home, *readers)
    posts = []
    for place in range(60):
        topic = list(TOPICS)[place % 2]
        rooms.clock.move(3600)
        posts.append(
            await rooms.post(authors[place % 2], f"{TOPICS[topic]} {place}", topics=[topic])
        )
    shown, done = [], []
    for number, reader in enumerate(readers):
        for place, post in enumerate(posts):
            at = post.created_at + timedelta(minutes=number + 1)
            shown.append(
                ImpressionDraft(
                    member=reader, post=post.external_id, shown_at=at, position=place % 9
                )
            )
            if place % 2 == number % 2:
                done.append(
                    EngagementDraft(
                        member=reader, post=post.external_id, kind=Action.LIKE, happened_at=at
                    )
                )
    await rooms.activity.upsert_impressions(OPERATOR, home, shown)
    await rooms.activity.upsert_engagements(OPERATOR, home, done)
    config = FeedConfig(fit_moments_max=1_200, fit_minutes=0)
    async with feeding(rooms, conninfo, config=config) as feed:
        report = await feed.fit()

    like = next(one for one in report.actions if one.action == "like")
    assert report.logged == 0
    assert 500 < report.replayed <= len(shown)
    assert like.positives / report.replayed == pytest.approx(len(done) / len(shown), rel=0.2)
    assert like.fitted
    assert like.log_loss < like.log_loss_prior / 2
