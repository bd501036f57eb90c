"""Flags split the feed: who gets which variant, what the record says of it, and what came of it."""

import json
from datetime import timedelta

import msgspec
import numpy as np
import psycopg
import pytest
import pytest_asyncio
from msgspec.structs import replace

from millrace.api.testing import town
from millrace.community.types import Key, PostDraft, program
from millrace.feed.features import COLUMN, FEATURES
from millrace.feed.models import values_of
from millrace.feed.repository import QUERIES
from millrace.feed.scorer import prior
from millrace.feed.scorers import linear
from millrace.feed.types import App
from millrace.feed.value import ACTIONS
from millrace.feed.variants import Variants
from millrace.release.flags.types import Actor, Wait
from millrace.store.session import document
from millrace.wiring import FeedSwitches

pytestmark = [pytest.mark.services, pytest.mark.asyncio(loop_scope="module")]
RITA = Actor("operator:rita")
TOPICS = ("boats", "nets", "tides", "ropes", "gulls", "knots", "fish", "sails")


@pytest.fixture(scope="module")
def database(server):
    """The address of the town's database."""
    return server.copy()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(database, tmp_path_factory):
    """A town with something to read."""
    async with town(database, str(tmp_path_factory.mktemp("town"))) as made:
        drafts = [
            PostDraft(external_id=f"{topic}-{author}", author=author, text=f"about {topic}")
            for topic in TOPICS
            for author in ("ben", "mona")
        ]
        await made.program.posts.upsert(program(), made.communities["harbour"], drafts)
        await made.program.feed.settled()
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(place):
    """A client of the town."""
    async with place.client() as made:
        yield made


async def put(place, name: str, definition: dict) -> None:
    """Write a flag of the feed, over whatever it was."""
    key, flags = f"feed.{name}", place.program.flags
    found = [one.version for one in await flags.list(prefix=key) if one.key == key]
    text = json.dumps({"state": "ENABLED", **definition})
    await flags.put(key, text, version=found[0] if found else 0, actor=RITA, reason="a test")


async def remove(place, name: str) -> None:
    """Take it away again."""
    flag = await place.program.flags.get(f"feed.{name}")
    await place.program.flags.remove(
        flag.key, version=flag.version, actor=RITA, reason="the test is over"
    )


def for_member(key: Key, given: str, otherwise: str) -> dict:
    """Targeting that gives one member something else."""
    return {"if": [{"==": [{"var": "targetingKey"}, str(key)]}, given, otherwise]}


def logged(database: str, member: Key) -> dict | None:
    """The variants beside the newest served feed of a member."""
    query = """select variants from served_feed where member_id = %s
               order by served_at desc, served_feed_id desc limit 1"""
    with psycopg.connect(database) as connection:
        return connection.execute(query, [member.id]).fetchone()[0]


async def test_two_members_get_two_pipelines_and_the_record_says_which(place, client, database):
    """One flag, two variants: another length of the feed, in the page, the record and the trace."""
    ada, mona = place.members["ada"], place.members["mona"]
    await put(place, "ranked_max", {
        "variants": {"short": 3, "long": 40}, "defaultVariant": "long",
        "targeting": for_member(ada, "short", "long"),
    })  # fmt: skip
    path = "/v1/members/{}/feed"
    short = (await client.get(path.format(ada), headers=place.bearer("ada"))).json()
    long = (await client.get(path.format(mona), headers=place.bearer("operator"))).json()
    post = short["items"][0]["post"]["id"]
    why = await client.get(
        f"/v1/members/{ada}/why", params={"post_id": post}, headers=place.bearer("operator")
    )
    logs = logged(database, ada), logged(database, mona)
    await remove(place, "ranked_max")
    after = (await client.get(path.format(mona), headers=place.bearer("operator"))).json()

    assert len(short["items"]) == 3
    assert len(long["items"]) > 3
    assert short["variants"] is None, "what split them is not for members"
    assert long["variants"] == {"feed.ranked_max": "long"}
    assert why.json()["trace"]["variants"] == {"feed.ranked_max": "short"}
    assert logs == ({"feed.ranked_max": "short"}, {"feed.ranked_max": "long"})
    assert after["variants"] == {}
    assert logged(database, mona) is None


async def test_weights_of_a_variant_explain_what_they_served(place, client):
    """A post's terms are those of its variant, also after the flag is gone."""
    ben = place.members["ben"]
    await put(place, "weights", {"variants": {"likes": {"like": 9.0}}, "defaultVariant": "likes"})
    feed = await client.get(f"/v1/members/{ben}/feed", headers=place.bearer("operator"))
    await remove(place, "weights")
    post = feed.json()["items"][0]["post"]["id"]
    why = await client.get(
        f"/v1/members/{ben}/why", params={"post_id": post}, headers=place.bearer("operator")
    )
    trace = why.json()["trace"]

    assert feed.json()["variants"] == {"feed.weights": "likes"}
    like = next(one for one in trace["actions"] if one["action"] == "like")
    assert like["weight"] == 9.0
    assert sum(one["value"] for one in trace["actions"]) == pytest.approx(
        trace["adjustments"][0]["before"] if trace["adjustments"] else trace["score"], rel=1e-5
    )


async def test_a_flag_names_the_model_and_what_it_may_use(place, client):
    """A kept model serves one member, with a feature off; the record and the trace say so."""
    ada, mona = place.members["ada"], place.members["mona"]
    weights = [list(row) for row in prior().weights]
    for row in weights:
        row[COLUMN["affinity"]] = 5.0
    model = replace(prior(), version="pointwise-kept", weights=weights)
    async with place.program.router.write() as session:
        await session.run(
            QUERIES["insert_scorer"],
            scorer_version=model.version,
            fitted_at=place.program.clock.now() - timedelta(days=9),
            examples=1,
            model=document(msgspec.to_builtins(model)),
        )
        newer = replace(prior(), version="pointwise-newer")
        await session.run(
            QUERIES["insert_scorer"],
            scorer_version=newer.version,
            fitted_at=place.program.clock.now(),
            examples=1,
            model=document(msgspec.to_builtins(newer)),
        )
    await put(place, "scorer", {
        "variants": {"kept": "pointwise-kept", "prior": "prior"}, "defaultVariant": "prior",
        "targeting": for_member(ada, "kept", "prior"),
    })  # fmt: skip
    await put(place, "feature.similarity", {
        "variants": {"on": True, "off": False}, "defaultVariant": "on",
        "targeting": for_member(ada, "off", "on"),
    })  # fmt: skip
    traces = {}
    for member in (ada, mona):
        await client.get(f"/v1/members/{member}/feed", headers=place.bearer("operator"))
        why = await client.get(
            f"/v1/members/{member}/why",
            params={"post_id": str(place.posts["ben"])},
            headers=place.bearer("operator"),
        )
        traces[member] = why.json()["trace"]
    await remove(place, "scorer")
    await remove(place, "feature.similarity")
    hers, others = traces[ada], traces[mona]
    used = linear(model, frozenset({"similarity"}), pooled=True)
    row = np.array([[hers["features"][name] for name in FEATURES]])
    chances = dict(zip([action.value for action in ACTIONS], used.of(row)[0], strict=True))

    assert hers["variants"] == {"feed.scorer": "kept", "feed.feature.similarity": "off"}
    assert others["variants"] == {"feed.scorer": "prior", "feed.feature.similarity": "on"}
    assert (hers["versions"]["scorer"], others["versions"]["scorer"]) == (
        "pointwise-kept", prior(pooled=True).version,
    )  # fmt: skip
    assert hers["features"]["similarity"] != 0, "what was not used is told all the same"
    for one in hers["actions"]:
        assert one["probability"] == pytest.approx(chances[one["action"]], rel=1e-5)
    assert not used.weights[:, COLUMN["similarity"]].any()


async def test_broken_flags_change_nothing_but_counters(place, client):
    """Three ways to be wrong: the feed is what it was, the trace and the counters say why."""
    mona = place.members["mona"]
    before = await place.program.feed.preview(mona, limit=50)
    await put(place, "diversity", {"variants": {"on": 7}, "defaultVariant": "on"})
    await put(place, "scorer", {"variants": {"on": "pointwise-1"}, "defaultVariant": "on"})
    await put(place, "seen_days", {"variants": {"on": 3}, "defaultVariant": "on",
                                   "targeting": {"cat": [{"var": "community"}, " is no variant"]}})  # fmt: skip
    after = await place.program.feed.preview(mona, limit=50)
    who = place.bearer("operator")
    served = (await client.get(f"/v1/members/{mona}/feed", headers=who)).json()
    post = served["items"][0]["post"]["id"]
    why = await client.get(f"/v1/members/{mona}/why", params={"post_id": post}, headers=who)
    metrics = (await client.get("/metrics", headers=place.bearer("operator"))).text
    for name in ("diversity", "scorer", "seen_days"):
        await remove(place, name)

    assert [item.view.post.key for item in after.items] == [i.view.post.key for i in before.items]
    assert [item.score for item in after.items] == pytest.approx(
        [item.score for item in before.items], rel=1e-2
    ), "only time passed"
    assert after.variants == served["variants"] == {}
    assert not after.degraded
    faults = why.json()["trace"]["faults"]
    assert "7 is not a number from 0 to 1" in faults["feed.diversity"]
    assert "there is no scorer 'pointwise-1'" in faults["feed.scorer"]
    assert faults["feed.seen_days"]
    for flag, fault in (("diversity", "bounds"), ("scorer", "unknown"), ("seen_days", "error")):
        assert f'faults_total{{fault="{fault}",flag="feed.{flag}"}} 2.0' in metrics


async def test_figures_reach_the_stages_that_read_them(place):
    """Three nearest posts and no other source: that is all that is left to rank."""
    mona, figures = (
        place.members["mona"],
        {"network_max": 0, "exploration_max": 0, "retrieval_max": 3},
    )
    before = await place.program.feed.preview(mona, limit=50)
    for name, figure in figures.items():
        await put(place, name, {"variants": {"on": figure}, "defaultVariant": "on"})
    after = await place.program.feed.preview(mona, limit=50)
    for name in figures:
        await remove(place, name)

    assert len(before.items) > 3
    assert len(after.items) == 3
    assert after.variants == {f"feed.{name}": "on" for name in figures}


async def test_a_ramp_moves_nobody_back(place):
    """Whoever had the variant has it at every later percentage, and the shares are as asked."""
    flags, config = place.program.flags, place.program.settings.feed
    variants = Variants(config, values_of(config), FeedSwitches(flags))
    members = [Key(place.communities["harbour"], number) for number in range(2_000)]
    key, held = "feed.exploration_every", frozenset[Key]()
    await put(place, "exploration_every", {
        "variants": {"often": 5, "seldom": 20}, "defaultVariant": "seldom",
        "targeting": {"fractional": [["often", 0], ["seldom", 100]]},
    })  # fmt: skip
    shares = []
    for percentage in (5, 25, 60, 100):
        flag = await flags.get(key)
        await flags.ramp(
            key, "often", percentage, version=flag.version, actor=RITA, reason="further"
        )
        plans = {member: variants.plan(member, App()) for member in members}
        now = {member for member, plan in plans.items() if plan.config.exploration_every == 5}
        assert held <= now, f"at {percentage} % somebody lost it"
        held = frozenset(now)
        shares.append(100 * len(now) / len(members))
    await remove(place, "exploration_every")

    assert shares == pytest.approx([5, 25, 60, 100], abs=4)


async def test_the_app_that_asks_decides_and_is_remembered(place, client):
    """Version, platform and country come as headers; a wrong one is refused by name."""
    mona = place.members["mona"]
    await put(place, "network_max", {
        "variants": {"some": 7, "all": 120}, "defaultVariant": "all",
        "targeting": {"if": [{"and": [
            {"sem_ver": [{"var": "appVersion"}, ">=", "9.2.0"]},
            {"==": [{"var": "platform"}, "android"]}, {"==": [{"var": "country"}, "DE"]},
        ]}, "some", "all"]},
    })  # fmt: skip
    path, who = f"/v1/members/{mona}/feed", place.bearer("operator")
    app = {
        "Millrace-App-Version": "9.3.1",
        "Millrace-Platform": "android",
        "Millrace-Country": "DE",
    }
    found = [
        (await client.get(path, headers=who | headers)).json()["variants"]
        for headers in (app, app | {"Millrace-App-Version": "9.1.9"}, {})
    ]
    looked = await place.program.feed.preview(mona)  # the last one was asked without a version
    await client.get(path, headers=who | app)
    looked_again = await place.program.feed.preview(mona)
    refused = [
        await client.get(path, headers=who | {name: value})
        for name, value in (
            ("Millrace-App-Version", "newest"),
            ("Millrace-App-Version", "1" * 61),
            ("Millrace-Platform", "An Android"),
            ("Millrace-Country", "Germany"),
        )
    ]
    await remove(place, "network_max")
    await place.program.flags.flush()
    adopted = await place.program.flags.adoption(Wait(track="android", version="9.2.0", share=1.0))

    assert found == [{"feed.network_max": one} for one in ("some", "all", "all")]
    assert looked.variants == {"feed.network_max": "all"}
    assert looked_again.variants == {"feed.network_max": "some"}, "as the member's app would get it"
    assert [answer.status_code for answer in refused] == [400] * 4
    assert "9.2.0" in refused[0].json()["next_step"]
    assert (adopted.members, adopted.active) in {(1, 1), (0, 1)}, "two versions were seen of one"


async def visit(place, client, name: str, count: int) -> None:
    """A member opens the feed, looks at twice `count` posts, likes half of them and hides one."""
    who, member = place.bearer(name), place.members[name]
    page = (await client.get(f"/v1/members/{member}/feed", headers=who)).json()
    now = place.program.clock.now().isoformat()
    items = [
        {
            "post_id": item["post"]["id"], "position": item["position"],
            "served_feed_id": page["served_feed_id"], "shown_at": now,
        }
        for item in page["items"][: 2 * count]
    ]  # fmt: skip
    taken = await client.post("/v1/impressions", json={"items": items}, headers=who)
    assert taken.json()["created"] == 2 * count, taken.text
    deeds = [(item, kind) for item in items[:count] for kind in ("click", "like")]
    deeds.append((items[0], "hide"))
    done = [{"post_id": item["post_id"], "kind": kind, "happened_at": now} for item, kind in deeds]
    await client.post("/v1/engagements", json={"items": done}, headers=who)


async def test_what_members_did_is_cut_by_variant(place, client):
    """Members, feeds, impressions and engagements of each variant, for who may see them."""
    ada = place.members["ada"]
    await put(place, "diverse_max", {
        "variants": {"few": 10, "many": 150}, "defaultVariant": "many",
        "targeting": for_member(ada, "few", "many"),
    })  # fmt: skip
    await visit(place, client, "ada", 2)
    await visit(place, client, "ben", 1)
    address = "/v1/flags/feed.diverse_max/outcomes"
    answer = await client.get(address, headers=place.bearer("manager"))
    by = {one["variant"]: one for one in answer.json()["variants"]}
    earlier = (place.program.clock.now() - timedelta(days=2)).isoformat()
    empty = await client.get(
        address,
        params={
            "since": (place.program.clock.now() - timedelta(days=3)).isoformat(),
            "until": earlier,
        },
        headers=place.bearer("manager"),
    )
    turned = await client.get(address, params={"until": "2020-01-01T00:00:00Z", "since": earlier},
                              headers=place.bearer("manager"))  # fmt: skip
    unknown = await client.get("/v1/flags/app.button/outcomes", headers=place.bearer("manager"))
    member = await client.get(address, headers=place.bearer("ada"))
    few_feeds = await place.program.feed._outcomes.of("feed.diverse_max", feeds_max=1)
    await place.program.feed.measure()
    metrics = (await client.get("/metrics", headers=place.bearer("operator"))).text
    await remove(place, "diverse_max")

    few, many = by["few"], by["many"]
    assert (answer.json()["share"], few_feeds.share) == (1.0, 0.5)
    assert sum(one.members for one in few_feeds.variants) <= 2
    assert (few["members"], few["feeds"], few["impressions"], few["engaged"]) == (1, 1, 4, 2)
    assert (many["members"], many["feeds"], many["impressions"], many["engaged"]) == (1, 1, 2, 1)
    assert few["engagements"] | {"like": 2, "click": 2, "hide": 1, "share": 0} == few["engagements"]
    assert few["engaged_rate"] == few["rates"]["like"] == 0.5
    assert few["rates"]["hide"] == 0.25
    assert empty.json()["variants"] == []
    assert (turned.status_code, unknown.status_code, member.status_code) == (422, 404, 403)
    assert 'variant_served_total{flag="feed.diverse_max",variant="few"} 1.0' in metrics
    assert 'variant_impressions{flag="feed.diverse_max",variant="few"} 4.0' in metrics
    assert 'engagements{flag="feed.diverse_max",kind="hide",variant="many"} 1.0' in metrics
