"""Goal: clients that nobody changed work with this server: those of OpenFeature, as released.

The JavaScript packages come from a folder (MILLRACE_TEST_OFREP_JS) or, where there is npm and it
answers within a minute, into pytest's cache; elsewhere that test says why it does not run.
"""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from browser_site import NO_CHROMIUM
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from millrace.api.serve import serving
from millrace.api.testing import Town, town
from millrace.release.flags.types import Actor
from millrace.settings import RATES, DoorConfig

pytestmark = pytest.mark.services
SCRIPT = Path(__file__).with_name("ofrep_client.mjs")
PACKAGES = [
    "@openfeature/core@1.12.0", "@openfeature/web-sdk@1.10.0",
    "@openfeature/ofrep-core@2.3.0", "@openfeature/ofrep-web-provider@0.4.3",
]  # fmt: skip
INSTALL_SECONDS_MAX = 60
RUN_SECONDS_MAX = 60
TESTER = Actor("operator:olga")
FLAGS = {
    "bool": {"variants": {"on": True, "off": False}, "defaultVariant": "on"},
    "text": {"variants": {"a": "good day", "b": "hi"}, "defaultVariant": "a"},
    "whole": {"variants": {"few": 5, "many": 50}, "defaultVariant": "many"},
    "part": {"variants": {"whole": 1, "half": 0.5}, "defaultVariant": "whole"},
    "object": {"variants": {"a": {"columns": 2, "names": ["x"]}}, "defaultVariant": "a"},
    "off": {"state": "DISABLED", "variants": {"on": True}, "defaultVariant": "on"},
    "mine": {
        "variants": {"yes": True, "no": False},
        "defaultVariant": "no",
        "targeting": {"if": [{"==": [{"var": "country"}, "SE"]}, "yes", "no"]},
        "metadata": {"team": "feed"},
    },
    "broken": {
        "variants": {"yes": True},
        "defaultVariant": "yes",
        "targeting": {"if": [True, "missing", "yes"]},
    },
}


async def write(place: Town, key: str, definition: dict, version: int = 0) -> None:
    """Write a flag, and wait until this process decides by it."""
    flags = place.program.flags
    before, text = flags.etag(), json.dumps({"state": "ENABLED"} | definition)
    await flags.put(key, text, version=version, actor=TESTER, reason="for the test")
    await asyncio.wait_for(flags.changed(before, 20.0), 20.0)


@asynccontextmanager
async def served(
    conninfo: str, folder: Path, *, origins: Sequence[str] = (), **rates: int
) -> AsyncIterator[tuple[Town, str]]:
    """Lend a town with flags behind a real server."""
    generous = dict.fromkeys(RATES, 1_000_000)
    door = DoorConfig(rates=generous | rates, cors_origins=list(origins))
    async with (
        town(conninfo, str(folder), door=door) as place,
        serving(place.app, "127.0.0.1", 0) as address,
    ):
        for key, definition in FLAGS.items():
            if key != "broken":
                await write(place, key, definition)
        yield place, address


def client_of(address: str, token: str, name: str):
    """Return a client of the SDK in a domain of its own."""
    headers = {"Authorization": f"Bearer {token}"}
    provider = OFREPProvider(address, headers_factory=lambda: headers, timeout=20)
    api.set_provider(provider, domain=name)
    return api.get_client(domain=name)


async def test_the_python_client_gets_every_type(conninfo, tmp_path):
    """Values, variants, reasons, metadata and defaults arrive as the SDK's own types."""
    async with served(conninfo, tmp_path) as (place, address):
        client = client_of(address, place.tokens["manager"], "types")
        someone = EvaluationContext(str(place.members["ada"]), {"country": "SE"})

        def found():
            return {
                "bool": client.get_boolean_details("bool", False),
                "text": client.get_string_details("text", "none"),
                "whole": client.get_integer_details("whole", 0),
                "part": client.get_float_details("part", 0.0),
                "object": client.get_object_details("object", {}),
                "mine": client.get_boolean_details("mine", False, someone),
                "off": client.get_boolean_details("off", True),
                "missing": client.get_string_details("missing", "own"),
                "mistaken": client.get_boolean_details("text", True),
            }

        got = await asyncio.to_thread(found)

    values = {name: one.value for name, one in got.items()}
    assert values == {
        "bool": True, "text": "good day", "whole": 50, "part": 1.0,
        "object": {"columns": 2, "names": ["x"]}, "mine": True, "off": True, "missing": "own",
        "mistaken": True,
    }  # fmt: skip
    assert type(values["part"]) is float
    assert got["mine"].variant == "yes"
    assert got["mine"].reason == Reason.TARGETING_MATCH
    assert got["mine"].flag_metadata == {"team": "feed"}
    assert (got["off"].reason, got["off"].error_code) == (Reason.DISABLED, None)
    assert got["missing"].error_code == ErrorCode.FLAG_NOT_FOUND
    assert got["mistaken"].error_code == ErrorCode.TYPE_MISMATCH
    assert all(
        one.error_code is None for name, one in got.items() if name[0] != "m" or name == "mine"
    )


async def test_the_python_client_hears_every_refusal(conninfo, tmp_path):
    """A refusal is the caller's default and an error that says why, and 429 a pause."""
    async with served(conninfo, tmp_path, evaluate=3) as (place, address):
        stranger = client_of(address, "forged", "stranger")
        ada = client_of(address, place.tokens["ada"], "ada")
        ben = EvaluationContext(str(place.members["ben"]))

        def found():
            return [
                stranger.get_boolean_details("bool", False),
                ada.get_boolean_details("bool", False, ben),
                *(ada.get_boolean_details("bool", False) for _ in range(4)),
            ]

        unknown, forbidden, *others = await asyncio.to_thread(found)

    assert (unknown.value, unknown.error_message) == (False, "unauthorized")
    assert (forbidden.value, forbidden.error_message) == (False, "forbidden")
    assert [one.value for one in others] == [True, True, False, False]
    assert "Rate limited" in (others[2].error_message or "")
    assert "paused" in (others[3].error_message or "")


@pytest.fixture(scope="session")
def packages(request: pytest.FixtureRequest) -> Path:
    """The folder with node_modules; skips where there is none to be had."""
    if shutil.which("node") is None:
        pytest.skip("there is no node on this machine")
    folder = Path(os.environ.get("MILLRACE_TEST_OFREP_JS", "") or _cached(request))
    if not (folder / "node_modules" / "@openfeature" / "ofrep-web-provider").is_dir():
        pytest.skip(f"no OFREP web provider in {folder}: npm could not fetch it within a minute")
    return folder


def _cached(request: pytest.FixtureRequest) -> Path:
    """Return the folder in pytest's cache; what npm fetched comes into it whole, or not at all."""
    folder = request.config.cache.mkdir("ofrep-javascript")
    npm = shutil.which("npm")
    if npm is None or (folder / "node_modules").is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        command = [npm, "install", "--prefix", fresh, "--no-audit", "--no-fund", "--ignore-scripts"]
        with suppress(subprocess.TimeoutExpired, OSError):  # OSError: another worker was faster
            subprocess.run(
                [*command, *PACKAGES], timeout=INSTALL_SECONDS_MAX, check=False, capture_output=True
            )
            (Path(fresh) / "node_modules").rename(folder / "node_modules")
    return folder


async def test_the_javascript_web_provider_follows_a_kill(conninfo, tmp_path, packages):
    """The web SDK evaluates all at once, hears of a kill by an event, and refetches by itself."""
    shutil.copy(SCRIPT, packages / SCRIPT.name)  # node looks for packages beside the script
    async with served(conninfo, tmp_path) as (place, address):
        process = await asyncio.create_subprocess_exec(
            "node", SCRIPT.name, address, place.tokens["ada"], str(place.members["ada"]),
            cwd=packages,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(RUN_SECONDS_MAX):
                before = json.loads(await process.stdout.readline() or b"{}")
                if before:
                    await place.program.flags.kill("bool", actor=TESTER, reason="for the test")
                after = json.loads(await process.stdout.readline() or b"{}")
                _, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    assert process.returncode == 0, errors.decode()
    assert before == {
        "bool": [True, "on", "STATIC"],
        "text": ["good day", "a", "STATIC"],
        "whole": [50, "many", "STATIC"],
        "part": [1, "whole", "STATIC"],
        "object": [{"columns": 2, "names": ["x"]}, "a", "STATIC"],
        "mine": [True, "yes", "TARGETING_MATCH"],
        "off": [True, "", "DISABLED"],
        "missing": ["own", "FLAG_NOT_FOUND", "ERROR"],
    }
    assert after == {"changed": ["bool"], "bool": [False, "", "DISABLED"]}


MAP = {
    "@openfeature/core": "/@openfeature/core/dist/esm/index.js",
    "@openfeature/web-sdk": "/@openfeature/web-sdk/dist/esm/index.js",
    "@openfeature/ofrep-core": "/@openfeature/ofrep-core/index.esm.js",
    "@openfeature/ofrep-web-provider": "/@openfeature/ofrep-web-provider/index.esm.js",
}
PAGE = """<!doctype html><script type="importmap">{"imports": %s}</script>
<script type="module">
import { OpenFeature, ProviderEvents } from "@openfeature/web-sdk";
import { OFREPWebProvider } from "@openfeature/ofrep-web-provider";
const [address, token, member] = JSON.parse(decodeURIComponent(location.hash.slice(1)));
await OpenFeature.setContext({ targetingKey: member });
await OpenFeature.setProviderAndWait(new OFREPWebProvider({
  baseUrl: address, cacheMode: "disabled", headers: [["X-API-Key", token]],
}));
const client = OpenFeature.getClient();
client.addHandler(ProviderEvents.ConfigurationChanged, () => {
  document.title = `changed: ${client.getBooleanValue("bool", false)}`;
});
document.title = `ready: ${client.getBooleanValue("bool", false)}`;
</script>"""


@asynccontextmanager
async def elsewhere(folder: Path) -> AsyncIterator[str]:
    """Serve the page and the packages from another origin."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        kind, body = "text/html", (PAGE % json.dumps(MAP)).encode()
        if path != "/":
            file = folder / path[1:]
            kind, body = "text/javascript", file.read_bytes() if file.is_file() else b""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.skipif(NO_CHROMIUM is not None, reason=str(NO_CHROMIUM))
@pytest.mark.asyncio(loop_scope="session")
async def test_a_page_of_another_origin_follows_a_kill(server, tmp_path, packages, browser):
    """A real browser lets the page call, send its key, and listen to the stream of changes."""
    async with (
        elsewhere(packages / "node_modules") as origin,
        served(server.copy(), tmp_path, origins=[origin]) as (place, address),
    ):
        asked = json.dumps([address, place.tokens["ada"], str(place.members["ada"])])
        page = await browser.new_page()
        try:
            await page.goto(f"{origin}/#{quote(asked)}")
            await page.wait_for_function("document.title === 'ready: true'")
            async with asyncio.timeout(30):
                while not len(place.app.state.flag_streams):
                    await asyncio.sleep(0.01)
            await place.program.flags.kill("bool", actor=TESTER, reason="for the test")
            await page.wait_for_function("document.title === 'changed: false'")
        finally:
            await page.close()
