"""Goal: reading an identity provider's keys behaves alike over the fake and over real HTTP."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from millrace.community.provider import DOCUMENT_BYTES_MAX, fetched, keys_of
from millrace.community.testing import FakeProvider
from millrace.kernel.errors import UnavailableError


@asynccontextmanager
async def answering(answer):
    """Serve HTTP on this machine: `answer()` gives the raw response, or None to say nothing."""

    calls = []

    async def serve(reader, writer):
        calls.append(asyncio.current_task())
        with suppress(ConnectionError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            raw = await answer()
            if raw is None:
                await reader.read()  # until the client has lost patience
            else:
                writer.write(raw)
                await writer.drain()
        writer.close()
        with suppress(ConnectionError, EOFError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"
        await asyncio.gather(*calls)


def ok(body):
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body


@pytest.fixture(params=["fake", "http"])
async def provider(request):
    """A provider with one key, and how to fetch from it."""
    made = FakeProvider()
    made.rotate("k1")
    if request.param == "fake":
        yield made, made.fetch, "https://id.example.org/jwks"
        return

    async def answer():
        return b"HTTP/1.1 500 No\r\n\r\n" if made.silent else ok(await made.fetch(""))

    async with answering(answer) as url:
        yield made, fetched, url


async def test_the_keys_arrive(provider):
    """What is fetched are the keys as they are now."""
    made, fetch, url = provider
    first = keys_of(await fetch(url))
    made.rotate("k2")
    second = keys_of(await fetch(url))

    assert (set(first), set(second)) == ({"k1"}, {"k1", "k2"})
    assert second["k2"].algorithms == ["EdDSA"]


async def test_silence_is_an_outage(provider):
    """A provider that does not answer is reported as such."""
    made, fetch, url = provider
    made.silent = True
    with pytest.raises(UnavailableError, match="does not answer"):
        await fetch(url)


@pytest.mark.parametrize(
    "raw",
    [b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", b"no http at all\r\n\r\n", b"",
     ok(b"x" * (DOCUMENT_BYTES_MAX + 1))],
    ids=["redirect", "no http", "hung up", "too long"],
)  # fmt: skip
async def test_bad_answers(raw):
    """No redirect is followed, no endless document is read, no broken answer gets through."""

    async def answer():
        return raw

    async with answering(answer) as url:
        with pytest.raises(UnavailableError):
            await fetched(url)


async def test_a_slow_answer_is_given_up():
    """The time is bounded."""

    async def answer():
        return None

    async with answering(answer) as url:
        with pytest.raises(UnavailableError, match="does not answer"):
            await fetched(url, seconds_max=1.0)


@pytest.mark.parametrize(
    "document", [b"", b"[]", b'{"keys": 5}', b"\xff", b"[" * 100_000, b'{"keys": [5]}']
)
def test_what_is_no_document(document):
    """A document of another form is an outage, not a crash."""
    with pytest.raises(UnavailableError, match="sent no JWKS document"):
        keys_of(document)


def test_unusable_keys_are_left_out():
    """Odd keys do not spoil the good ones."""
    assert keys_of(b'{"keys": [{}, {"kid": "a"}, {"kid": "b", "kty": "OKP", "crv": "Ed25519", "x": "!"},'
                   b'{"kid": "c", "kty": "EC", "crv": ["P-256"]}, {"kid": 5, "kty": "RSA", "n": 1, "e": {}}]}') == {}  # fmt: skip
