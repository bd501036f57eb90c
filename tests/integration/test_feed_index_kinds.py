"""The setting `feed.index` reaches every index of a feed, and pages are the same."""

import sys

import pytest
from msgspec.structs import replace

from millrace.community.testing import Rooms
from millrace.feed.room import Feed
from millrace.feed.testing import feeding, parts_for
from millrace.feed.types import FeedConfig, IndexKind
from millrace.kernel.errors import SetupError

pytestmark = pytest.mark.services
QUICK = FeedConfig(coalesce_seconds=0.0, fit_minutes=0.0)
LOOKS = {"exact": "Coarse", "torch": "TorchLook", "approximate": "NeighbourLists"}


@pytest.mark.parametrize("kind", IndexKind)
async def test_a_feed_searches_as_its_setting_says(router, conninfo, kind):
    """Also through the index of an encoder that is held beside the one that serves."""
    if kind is IndexKind.APPROXIMATE:
        pytest.importorskip("faiss", reason="faiss is an extra")
    rooms = Rooms(router)
    home = await rooms.community("village")
    reader, author = await rooms.people(home, "rita", "gus")
    written = [await rooms.post(author, f"harbour boat wind {number}") for number in range(5)]

    async with feeding(rooms, conninfo, config=replace(QUICK, index=kind)) as feed:
        await feed.settled()
        page = await feed.page(reader.member, limit=9)
        feed.catalogue.hold("another", 16)
        looks = {type(one.look).__name__ for one in feed.catalogue.indexes.values()}

    assert {item.view.post.key for item in page.items} == {post.key for post in written}
    assert looks == {LOOKS[kind]}


async def test_a_feed_does_not_begin_without_what_its_index_needs(router, conninfo, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)

    with pytest.raises(SetupError, match="which needs faiss"):
        Feed(parts_for(Rooms(router), conninfo, config=replace(QUICK, index=IndexKind.APPROXIMATE)))
