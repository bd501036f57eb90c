"""What the feed is made of. `wiring` fits these together."""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from millrace.community.activity import Activity
from millrace.community.percentiles import Percentiles
from millrace.community.posts import Posts
from millrace.community.relations import RelationBook
from millrace.feed.ports import Encoder, Switches
from millrace.feed.process import EmbeddingProcess
from millrace.feed.types import FeedConfig
from millrace.kernel.clock import Clock
from millrace.kernel.ids import IdMaker
from millrace.store.router import Router


class FeedParts(Struct, frozen=True, kw_only=True):
    """The feed's surroundings.

    secret: signs cursors.
    conninfo: where the change stream is read.
    process: embeds beside this process; None where it is done here, or elsewhere.
    switches: decides who gets which variant of the feed; None where nothing is split.
    load: loads the model of a directory, the packaged one for an empty name; None where this
        process has the one that it was given and no other.
    """

    router: Router
    clock: Clock
    ids: IdMaker
    secret: bytes
    conninfo: str
    encoder: Encoder
    posts: Posts
    relations: RelationBook
    activity: Activity
    percentiles: Percentiles
    config: FeedConfig = FeedConfig()
    process: EmbeddingProcess | None = None
    switches: Switches | None = None
    load: Callable[[str], Awaitable[Encoder]] | None = None
