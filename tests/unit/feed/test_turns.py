"""Turns at the encoder: by urgency, one piece at a time, and whoever gives up lets the next go."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.feed.prompts.types import Marker
from millrace.feed.testing import FakeEncoder
from millrace.feed.turns import PIECE_PROMPTS_MAX, Turns, Urgency, pieces

SECONDS_MAX = 5.0


class Held(FakeEncoder):
    """An encoder that waits until it is let go, and notes in which order it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self.at_once = 0
        self.go = asyncio.Event()

    async def embed(self, prompts):
        self.at_once += 1
        assert self.at_once == 1, "two pieces at a time"
        self.order += [prompt[-1] for prompt in prompts]
        try:
            await self.go.wait()
        finally:
            self.at_once -= 1
        return await super().embed(prompts)


def prompt(text: str):
    return (Marker("text"), text)


async def waiting(encoder: Held, turns: Turns) -> list[asyncio.Task]:
    """Hold the encoder, and let one of each urgency wait, the least urgent first."""
    first = asyncio.create_task(turns.embed([prompt("holds")], Urgency.BACKLOG))
    while not encoder.order:
        await asyncio.sleep(0)
    tasks = [first]
    for urgency in sorted(Urgency, reverse=True):
        tasks.append(asyncio.create_task(turns.embed([prompt(urgency.name)], urgency)))
        await asyncio.sleep(0)
    return tasks


async def test_the_most_urgent_goes_first():
    encoder = Held()
    tasks = await waiting(encoder, Turns(encoder))
    encoder.go.set()
    await asyncio.wait_for(asyncio.gather(*tasks), SECONDS_MAX)

    assert encoder.order == ["holds", "REQUEST", "POST", "MEMBER", "BACKLOG", "BESIDE"]


@pytest.mark.parametrize("gone", range(6))
async def test_who_gives_up_keeps_nobody_waiting(gone: int):
    encoder = Held()
    tasks = await waiting(encoder, Turns(encoder))
    tasks[gone].cancel()
    await asyncio.sleep(0)
    encoder.go.set()
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), SECONDS_MAX)

    assert sum(isinstance(one, asyncio.CancelledError) for one in done) == 1
    assert sum(isinstance(one, np.ndarray) for one in done) == 5


async def test_urgent_ones_come_between_the_pieces_of_a_backlog():
    encoder = Held()
    turns = Turns(encoder)
    many = [prompt(f"{n} " + "word " * 300) for n in range(5)]
    backlog = asyncio.create_task(turns.embed(many, Urgency.BACKLOG))
    while not encoder.order:
        await asyncio.sleep(0)
    urgent = asyncio.create_task(turns.embed([prompt("urgent")], Urgency.POST))
    await asyncio.sleep(0)
    encoder.go.set()
    await asyncio.wait_for(asyncio.gather(backlog, urgent), SECONDS_MAX)

    assert encoder.order.index("urgent") == 1


@given(st.lists(st.integers(0, 3_000), max_size=60))
def test_pieces_are_all_of_it_in_order(lengths: list[int]):
    prompts = [prompt("x" * length) for length in lengths]
    found = pieces(prompts)

    assert [one for piece in found for one in piece] == prompts
    assert all(0 < len(piece) <= PIECE_PROMPTS_MAX for piece in found)


async def test_vectors_come_in_the_order_asked():
    turns = Turns(FakeEncoder())
    texts = [f"word{n} " * (n * 40 + 1) for n in range(12)]
    together = await turns.embed([prompt(text) for text in texts], Urgency.POST)
    alone = [(await FakeEncoder().embed([prompt(text)]))[0] for text in texts]

    assert np.allclose(together, np.stack(alone))
    assert (await turns.embed([], Urgency.POST)).shape == (0, 32)
