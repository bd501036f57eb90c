"""The whole with the packaged model: meaning, not words."""

import pytest

from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import Key, MemberDraft
from millrace.feed.testing import feeding, packaged_encoder

pytestmark = pytest.mark.services
POSTS = {
    "boats": "We sailed past the lighthouse before the storm reached the bay.",
    "baking": "My sourdough finally rose after a night in the fridge.",
    "gardens": "Aphids on the roses again; ladybirds helped more than soap.",
    "trains": "The night sleeper to Vienna was late, but the berths were clean.",
}


@pytest.mark.parametrize(
    ("headline", "first"),
    [
        ("Yacht skipper and regatta coach", "boats"),
        ("Pastry chef", "baking"),
        ("Horticulturist who loves flowers", "gardens"),
        ("Railway engineer", "trains"),
    ],
)
async def test_a_headline_alone_finds_its_post(router, conninfo, headline, first):
    """No word is shared between headline and post."""
    rooms = Rooms(router)
    home = await rooms.community("village")
    (gus,) = await rooms.people(home, "gus")
    for topic, text in POSTS.items():
        await rooms.post(gus, text, title=topic)
    draft = MemberDraft(external_id="new", display_name="New", headline=headline)
    made = await rooms.members.upsert(OPERATOR, home, [draft])
    async with feeding(rooms, conninfo, encoder=packaged_encoder()) as feed:
        await feed.settled()
        page = await feed.page(Key(home, made.ids["new"]), limit=4)

    assert page.degraded == []
    assert page.items[0].view.post.title == first
