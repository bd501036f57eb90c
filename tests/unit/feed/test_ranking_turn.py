"""Goal: whoever waits for the database goes on between two rankings, and nobody ranks at once."""

import asyncio
import socket

import pytest

from millrace.feed.ranking_turn import RankingTurn


async def test_an_answer_that_came_during_a_ranking_is_heard_before_the_next():
    """The answer arrives at a socket, as the database's do."""
    turn, heard, answered = RankingTurn(), [], asyncio.Event()
    here, there = socket.socketpair()
    here.setblocking(False)
    asyncio.get_running_loop().add_reader(here, answered.set)

    async def rank(name):
        async with turn:
            if name == "first":
                there.send(b"x")
            heard.append(name)
        heard.append(f"behind {name}")

    async def waiting():
        await answered.wait()
        asyncio.get_running_loop().remove_reader(here)
        heard.append("answer")

    await asyncio.gather(waiting(), rank("first"), rank("second"))
    here.close()
    there.close()

    assert heard == ["first", "behind first", "answer", "second", "behind second"]


async def test_one_at_a_time_whoever_fails_or_leaves():
    """A ranking that fails gives its turn on, and one who leaves the line is not waited for."""
    turn, inside, most = RankingTurn(), 0, 0

    async def rank(fails):
        nonlocal inside, most
        async with turn:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1
            if fails:
                raise ValueError("ranked badly")

    tasks = [asyncio.create_task(rank(number % 3 == 0)) for number in range(9)]
    await asyncio.sleep(0)
    tasks[5].cancel()
    with pytest.raises(ValueError, match="badly"):
        await tasks[0]
    found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)

    assert most == 1
    assert [type(one) for one in found[3:7]] == [
        ValueError, type(None), asyncio.CancelledError, ValueError,
    ]  # fmt: skip
