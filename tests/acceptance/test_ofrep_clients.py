"""Goal: clients that nobody changed work with this server: those of OpenFeature, as released.

The JavaScript packages come from a folder (MILLRACE_TEST_OFREP_JS) or, where there is npm and it
answers within a minute, into pytest's cache; elsewhere that test says why it does not run.
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
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
async def served(conninfo: str, folder: Path, **rates: int) -> AsyncIterator[tuple[Town, str]]:
    """Lend a town with flags behind a real server."""
    door = DoorConfig(rates=dict.fromkeys(RATES, 1_000_000) | rates)
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
    folder = request.config.cache.mkdir("ofrep-javascript")
    npm = shutil.which("npm")
    if npm is not None and not (folder / "node_modules").is_dir():
        command = [
            npm,
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--no-save",
            *PACKAGES,
        ]
        try:
            subprocess.run(
                command, cwd=folder, timeout=INSTALL_SECONDS_MAX, check=False, capture_output=True
            )
        except subprocess.TimeoutExpired:
            shutil.rmtree(folder / "node_modules", ignore_errors=True)
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
