"""The encoder is trained by itself: what is surely better serves, and nothing else does."""

import asyncio

import psycopg
import pytest
from encoder_town import OLD
from msgspec.structs import replace
from trainer_town import POSTS, FakeSchool, Killed, Workshop, liked, serving, village
from waiting import until

from millrace.community.testing import Rooms
from millrace.feed.encoder_trainings import Stage
from millrace.feed.encoder_versions import NewVersion, State
from millrace.feed.gate import Answer
from millrace.feed.testing import FakeEncoder
from millrace.kernel.errors import ConflictError, SetupError

pytestmark = pytest.mark.services


async def test_a_better_encoder_is_embedded_fitted_for_and_promoted(router, conninfo, tmp_path):
    """And a second one is compared with it; of those before only the last one stays."""
    rooms = Rooms(router)
    await village(rooms)
    school = FakeSchool(dims=16)
    shop = Workshop(rooms, conninfo, tmp_path, school)
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        old = feed.catalogue.version
        done = await shop.trainer().run()
        row = await shop.versions.serving()
        await until(lambda: feed.catalogue.version == row.version)
        first = shop.left()

        for dims in (12, 8):
            school.dims = dims
            await liked(rooms, POSTS // 2)
            await feed.settled()
            await shop.trainer().run()
        states = {one.dims: one.state for one in await shop.versions.all()}
        last = await shop.trainings.newest()

    assert done.state is Stage.PROMOTED
    assert (row.dims, row.added_by, row.changed_by, row.chosen) == (
        16,
        "training",
        "training",
        True,
    )
    assert row.metrics["gate"] == done.gate
    assert row.metrics["data"] == done.data != ""
    assert done.against == old
    assert done.step == school.recipes[0].steps
    assert shop.fitted[0] == (row.version, old), "fitted before it serves"
    assert first == [f"encoders/{row.name}"], "examples and checkpoints are gone"
    assert states == {32: State.READY, 16: State.RETIRED, 12: State.READY, 8: State.SERVING}
    assert [one.state for one in last] == [Stage.PROMOTED] * 3
    assert shop.left() == sorted(
        f"encoders/{one.candidate_name}" for one in last if one.candidate_name != row.name
    )


async def test_what_is_not_surely_better_is_kept_out(router, conninfo, tmp_path):
    """Nothing is added, nothing is left, and the next one waits for more engagements."""
    rooms = Rooms(router)
    await village(rooms)
    shop = Workshop(rooms, conninfo, tmp_path, FakeSchool(gain=0.0))
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        done = await shop.trainer().run()
        known = await shop.versions.all()
        waiting = asyncio.create_task(shop.trainer().run())
        await until(lambda: any("waits for 1,100 engagements" in one for one in shop.said))
        await ended(waiting)

    assert done.state is Stage.KEPT_OUT
    assert done.judgement.difference == 0.0
    assert done.judgement.members == 200
    assert done.reason.startswith("not surely better")
    assert [one.name for one in known] == ["packaged"]
    assert shop.left() == []
    assert shop.school.calls == ["pace", "teach", "ask"]


async def test_a_training_that_is_killed_anywhere_goes_on_where_it_was(router, conninfo, tmp_path):
    """With the recipe that it began with; what was done is not done again."""
    rooms = Rooms(router)
    await village(rooms)
    school = FakeSchool()
    shop = Workshop(rooms, conninfo, tmp_path, school)
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        stood = []
        for school.kill in ("pace", "teach", "ask", "fit"):
            with pytest.raises(Killed):
                await shop.trainer().run()
            stood.append((await shop.trainings.newest())[0].state)
        school.kill = ""
        done = await shop.trainer().run()

    assert stood == [Stage.EXPORTING, Stage.TRAINING, Stage.JUDGING, Stage.EMBEDDING]
    assert done.state is Stage.PROMOTED
    assert len(await shop.trainings.newest()) == 1
    assert school.calls == ["pace", "teach", "ask", "fit"]
    assert len(school.recipes) == 2
    assert len({recipe.steps for recipe in school.recipes}) == 1
    assert [one.state for one in await shop.versions.all() if one.added_by == "training"] == [
        State.SERVING
    ]


async def test_between_any_two_changes_of_the_tables_it_may_be_killed(router, conninfo, tmp_path):
    """Added and not noted, promoted and not noted: found as it is, and not done twice."""
    rooms = Rooms(router)
    await village(rooms)
    shop = Workshop(rooms, conninfo, tmp_path, FakeSchool())
    moved = shop.trainings.move
    dies: list[Stage] = []

    async def move(training, state, *known):
        if state in dies:
            dies.remove(state)
            raise Killed
        return await moved(training, state, *known)

    shop.trainings.move = move
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        for stage in (Stage.TRAINING, Stage.JUDGING, Stage.EMBEDDING, Stage.PROMOTED):
            dies.append(stage)
            with pytest.raises(Killed):
                await shop.trainer().run()
        done = await shop.trainer().run()
        known = await shop.versions.all()

    assert done.state is Stage.PROMOTED
    assert sorted(one.state for one in known) == [State.READY, State.SERVING]
    assert shop.left() == [f"encoders/{done.candidate_name}"]


async def test_one_of_two_trains(router, conninfo, tmp_path):
    rooms = Rooms(router)
    await village(rooms)
    shop = Workshop(rooms, conninfo, tmp_path, FakeSchool())
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        both = {asyncio.create_task(shop.trainer().run()) for _ in range(2)}
        done, left = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        await until(lambda: any("waits for" in one for one in shop.said))
        await ended(*left)

    assert [one.result().state for one in done] == [Stage.PROMOTED]
    assert len(await shop.trainings.newest()) == 1
    assert shop.school.calls.count("teach") == 1


async def test_what_was_not_compared_with_the_one_that_serves_is_kept_out(
    router, conninfo, tmp_path
):
    """Somebody promoted another one while the candidate was embedded."""
    rooms = Rooms(router)
    await village(rooms)
    shop = Workshop(rooms, conninfo, tmp_path, FakeSchool())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.txt").write_text("24")
    mine = NewVersion(
        version=FakeEncoder(dims=24).version, name="mine", directory=str(tmp_path / "mine"), dims=24
    )

    async def fit(_encoder) -> str:
        await shop.versions.promote("mine", "operator:olga")
        return "fitted"

    shop.parts = replace(shop.parts, fit=fit)
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        await shop.versions.add(mine, "operator:olga")
        await until(lambda: feed.holding.of("mine"))
        done = await shop.trainer().run()
        serves = await shop.versions.serving()
        states = {one.name: one.state for one in await shop.versions.all()}

    assert done.state is Stage.KEPT_OUT
    assert "was compared with" in done.reason
    assert serves.name == "mine"
    assert states[done.candidate_name] is State.RETIRED
    assert shop.left() == ["mine/model.txt"]


async def test_what_cannot_be_read_where_it_is_embedded_is_let_go(router, conninfo, tmp_path):
    """As where another machine embeds, which has not the same data directory."""
    rooms = Rooms(router)
    await village(rooms)
    shop = Workshop(rooms, conninfo, tmp_path, FakeSchool())

    async def reads(directory: str):
        if directory:
            raise SetupError(f"the model at {directory} cannot be used: it is not a directory")
        return OLD

    async with serving(rooms, conninfo, reads) as feed:
        await feed.settled()
        done = await shop.trainer().run()
        states = {one.name: one.state for one in await shop.versions.all()}

    assert done.state is Stage.KEPT_OUT
    assert "cannot be read where that is done" in done.reason
    assert done.judgement.answer is Answer.PASS
    assert states == {"packaged": State.SERVING, done.candidate_name: State.RETIRED}
    assert shop.left() == []


async def test_what_breaks_is_tried_again_later(router, conninfo, tmp_path):
    """And the training of another machine is left to it for a while."""
    rooms = Rooms(router)
    await village(rooms)
    school = FakeSchool()
    shop = Workshop(rooms, conninfo, tmp_path, school)
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        school.dims = -1  # no encoder
        broken = await shop.trainer().run()
        school.dims = 16
        early = asyncio.create_task(shop.trainer().run())
        await until(lambda: any("not before" in one for one in shop.said))
        rooms.clock.move(61)
        await until(lambda: early.done())

        await liked(rooms, POSTS // 2)
        await feed.settled()
        elsewhere = await shop.trainings.begin("/another/machine", 1_100, broken.against)
        school.dims = 12
        later = asyncio.create_task(shop.trainer().run())
        await asyncio.sleep(0.1)
        left_alone = (await shop.trainings.newest(1))[0].state
        rooms.clock.move(601)
        await until(lambda: _moved(shop, elsewhere))
        await ended(later)
        given_up = next(
            one for one in await shop.trainings.newest() if one.training_id == elsewhere.training_id
        )

    assert broken.state is Stage.FAILED
    assert early.result().state is Stage.PROMOTED
    assert left_alone is Stage.EXPORTING
    assert given_up.state is Stage.FAILED
    assert "/another/machine" in given_up.reason


async def _moved(shop: Workshop, training) -> bool:
    found = await shop.trainings.newest()
    return any(one.training_id == training.training_id and not one.goes_on for one in found)


async def test_the_table_lets_one_go_on_and_keeps_what_has_ended(router, conninfo, tmp_path):
    rooms = Rooms(router)
    shop = Workshop(rooms, conninfo, tmp_path, FakeSchool())
    one = await shop.trainings.begin("here", 10, "packaged")
    with pytest.raises(ConflictError):
        await shop.trainings.begin("there", 10, "packaged")
    await shop.trainings.move(one, Stage.FAILED)
    with pytest.raises(ConflictError, match="not exporting any more"):
        await shop.trainings.move(one, Stage.TRAINING)
    with (
        psycopg.connect(conninfo) as connection,
        pytest.raises(psycopg.errors.CheckViolation, match="stays as it is"),
    ):
        connection.execute("update encoder_training set reason = 'luck'")


async def ended(*tasks: asyncio.Task) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
