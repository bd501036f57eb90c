"""A small town behind real doors, for tests: two communities, everybody who may knock."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from io import StringIO
from typing import Any, cast

import msgspec
from httpx import ASGITransport, AsyncClient
from litestar import Litestar
from msgspec import Struct

from millrace.api.app import create_app
from millrace.community.types import (
    CommentDraft,
    CommunityDraft,
    Key,
    MemberDraft,
    PostDraft,
    Role,
    program,
)
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.testing import FakeEncoder
from millrace.kernel.clock import Clock
from millrace.release.flags.types import FlagConfig
from millrace.settings import RATES, DoorConfig, Settings
from millrace.store.types import StoreConfig
from millrace.wiring import Program, build

MANY = 1_000_000
EARLIER = datetime(2026, 1, 1, tzinfo=UTC)
SETTLER = program("town")


class Town(Struct, kw_only=True):
    """The program, its application, and whoever lives there.

    keys: `harbour`, `hill` are communities; `ada`, `ben` and the moderator `mona` live at the
        harbour, `cleo` on the hill.
    posts: by the author's name. `comment` is Ada's, under Ben's post.
    tokens: by name; `operator` and `manager` run the installation, `reader` is a server.
    log: every line that was logged.
    """

    program: Program
    app: Litestar
    communities: dict[str, int]
    members: dict[str, Key]
    posts: dict[str, Key]
    comment: Key
    tokens: dict[str, str]
    log: StringIO

    def bearer(self, name: str) -> dict[str, str]:
        """Return the headers of somebody's request."""
        return {"authorization": f"Bearer {self.tokens[name]}"}

    @asynccontextmanager
    async def client(self, base_url: str = "http://127.0.0.1") -> AsyncGenerator[AsyncClient]:
        """Lend a client without a socket, whose requests run in the program's own event loop.

        The framework's client runs them in another thread's loop and stops this one meanwhile. The
        pool's tasks live here: a request that needs one more connection would wait for a loop that
        waits for the request.
        """
        assert not self.app.on_startup + self.app.on_shutdown, (
            "nothing begins or ends with the doors"
        )
        app = cast("Any", self.app)  # the two libraries name the same messages differently
        distant = ASGITransport(app, client=("testclient", 50_000))  # not this machine
        async with AsyncClient(transport=distant, base_url=base_url, follow_redirects=True) as made:
            yield made

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of an event."""
        lines = [msgspec.json.decode(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@asynccontextmanager
async def town(
    conninfo: str,
    data_dir: str,
    *,
    clock: Clock | None = None,
    door: DoorConfig | None = None,
    flags: FlagConfig | None = None,
) -> AsyncGenerator[Town]:
    """Build the town on a fresh database."""
    generous = DoorConfig(rates=dict.fromkeys(RATES, MANY))
    settings = Settings(
        store=StoreConfig(primary=conninfo, data_dir=data_dir),
        door=door or generous,
        flags=flags or FlagConfig(),
    )
    async with build(settings, clock=clock, encoder=FakeEncoder(history=PooledHistory())) as made:
        log = StringIO()
        app = create_app(made, log_stream=log)
        settled = await _settled(made)
        yield Town(program=made, app=app, log=log, **settled)


async def _settled(made: Program) -> dict[str, Any]:
    """Let everybody move in, and give them tokens."""
    places = [
        CommunityDraft(external_id="harbour", name="Harbour", created_at=EARLIER),
        CommunityDraft(external_id="hill", name="Hill", created_at=EARLIER),
    ]
    communities = (await made.communities.upsert(SETTLER, places)).ids
    harbour, hill = communities["harbour"], communities["hill"]
    at_harbour = [
        MemberDraft(external_id="ada", display_name="Ada", headline="boats", joined_at=EARLIER),
        MemberDraft(external_id="ben", display_name="Ben", headline="nets", joined_at=EARLIER),
        MemberDraft(
            external_id="mona", display_name="Mona", role=Role.MODERATOR, joined_at=EARLIER
        ),
    ]
    on_hill = [MemberDraft(external_id="cleo", display_name="Cleo", joined_at=EARLIER)]
    ids = (await made.members.upsert(SETTLER, harbour, at_harbour)).ids
    members = {name: Key(harbour, number) for name, number in ids.items()}
    ids = (await made.members.upsert(SETTLER, hill, on_hill)).ids
    members["cleo"] = Key(hill, ids["cleo"])
    posts: dict[str, Key] = {}
    for name, key in members.items():
        draft = PostDraft(external_id=f"by-{name}", author=name, text=f"{name} writes of the sea")
        taken = await made.posts.upsert(SETTLER, key.community_id, [draft])
        posts[name] = Key(key.community_id, taken.ids[draft.external_id])
    line = CommentDraft(external_id="line", author="ada", post="by-ben", text="well said")
    comments = await made.threads.upsert(SETTLER, harbour, [line])
    return {
        "communities": communities,
        "members": members,
        "posts": posts,
        "comment": Key(harbour, comments.ids["line"]),
        "tokens": await _tokens(made, members),
    }


async def _tokens(made: Program, members: dict[str, Key]) -> dict[str, str]:
    identity = made.identity
    tokens = {
        name: (await identity.issue(f"member:{key}", 3600)).token for name, key in members.items()
    }
    tokens["operator"] = (await identity.create_operator("olga", Role.OPERATOR)).token
    tokens["manager"] = (await identity.create_operator("rita", Role.RELEASE_MANAGER)).token
    tokens["reader"] = (await identity.create_operator("shop", Role.FLAG_READER)).token
    return tokens
