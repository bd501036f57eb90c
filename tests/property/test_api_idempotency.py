"""Goal: whatever order things happen in, a key runs one request, once, and answers what it kept."""

import itertools
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.api.errors import KeyInUseError, KeyReusedError, MalformedError
from millrace.api.idempotency import KEPT_SECONDS, Claim, KeptAnswer, Keys, key_of, request_hash
from millrace.kernel.clock import ManualClock
from millrace.kernel.errors import UnavailableError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NUMBERS = itertools.count()
# What becomes of a request that runs: its answer is kept; it is refused; it fails while the
# database is away; its process dies.
OUTCOMES = ("kept", "refused", "failed", "lost")
STEPS = st.lists(
    st.tuples(
        st.sampled_from("ab"),  # subject
        st.sampled_from("xy"),  # key
        st.sampled_from("12"),  # request
        st.sampled_from(OUTCOMES),
        st.sampled_from([0, 1, KEPT_SECONDS // 2, KEPT_SECONDS + 1]),
    ),
    min_size=1,
    max_size=14,
)


class Flaky:
    """A router that can be away."""

    def __init__(self, router) -> None:
        self._router = router
        self.away = False

    @asynccontextmanager
    async def write(self):
        """Lend a session, or not."""
        if self.away:
            raise UnavailableError("the database is away")
        async with self._router.write() as session:
            yield session


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
async def test_keys_hold_their_promise(router, steps):
    """The keys answer like a model of four lines."""
    clock, flaky, run = ManualClock(NOW), Flaky(router), next(NUMBERS)
    keys = Keys(flaky, clock)
    model: dict[tuple[str, str], tuple[str, str, bytes, float]] = {}
    for number, (who, key, request, outcome, pause) in enumerate(steps):
        clock.move(pause)
        subject = f"{run}-{who}"
        held = model.get((subject, key))
        if held is not None and clock.monotonic() - held[3] > KEPT_SECONDS:
            held = None
        if held is None or (held[1] == "failed" and held[0] == request):
            claim = await keys.claim(subject, key, request)
            assert isinstance(claim, Claim)
            body = str(number).encode()
            if outcome == "kept":
                await keys.keep(claim, KeptAnswer(201, {"etag": "e"}, body))
            elif outcome != "lost":
                flaky.away = outcome == "failed"
                await keys.free(claim)
                flaky.away = False
            model[subject, key] = (request, outcome, body, clock.monotonic())
            if outcome == "refused":
                del model[subject, key]
        elif held[0] != request:
            with pytest.raises(KeyReusedError):
                await keys.claim(subject, key, request)
        elif held[1] == "kept":
            assert await keys.claim(subject, key, request) == KeptAnswer(
                201, {"etag": "e"}, held[2]
            )
        else:
            with pytest.raises(KeyInUseError):
                await keys.claim(subject, key, request)


@given(st.lists(st.binary(max_size=6), min_size=4, max_size=4), st.data())
def test_two_requests_share_a_hash_only_when_they_are_one(parts, data):
    """No part of a request can be moved into its neighbour."""
    other = data.draw(st.lists(st.binary(max_size=6), min_size=4, max_size=4))

    def hashed(four):
        return request_hash(four[0].hex(), four[1], four[2].hex(), four[3])

    assert (hashed(parts) == hashed(other)) == (parts == other)


@given(st.text(max_size=210))
def test_a_key_is_visible_ascii(text):
    """Any other text is a clear error."""
    good = 0 < len(text) <= 200 and all("!" <= letter <= "~" for letter in text)
    if good:
        assert key_of({"idempotency-key": text}) == text
    else:
        with pytest.raises(MalformedError):
            key_of({"idempotency-key": text})
