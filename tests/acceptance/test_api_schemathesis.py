"""Goal: whatever the interface lets somebody send, the answer is one that it tells of, and no 500."""

import asyncio
import sys
from pathlib import Path

import pytest

from millrace.api.serve import serving
from millrace.api.testing import town

pytestmark = pytest.mark.services
SEED = "20261121"
EXAMPLES = "3"
SECONDS_MAX = 240
# 412, 413 and 414 refuse too.
SETTINGS = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 409, 412, 413, 414, 415, 422, 429]
"""
UNENDING = "/events$"  # an answer that goes on until one has enough
CLOSED = "^/v1/(flag|rings)"  # a member is refused on all of these, as the matrix of roles shows
# Left out: `positive_data_acceptance`. A schema cannot say that a text of white space is empty, that
# a cursor is signed or that a date is not in the future; such input is refused by design.
CHECKS = ",".join(
    [
        "not_a_server_error", "status_code_conformance", "content_type_conformance",
        "response_headers_conformance", "response_schema_conformance", "negative_data_rejection",
        "missing_required_header", "unsupported_method", "ignored_auth",
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("who", "phases"), [("operator", "examples,coverage,fuzzing"), ("ada", "fuzzing")]
)
async def test_the_interface_is_as_it_tells(conninfo, tmp_path, who, phases):
    """Schemathesis sends what the OpenAPI document allows and what it forbids, from a fixed seed."""
    async with (
        town(conninfo, str(tmp_path)) as place,
        serving(place.app, "127.0.0.1", 0) as address,
    ):
        known = {"post_id": place.posts["ben"], "target_id": place.members["mona"]}
        lines = [f'"path.{name}" = "{key}"' for name, key in known.items()]
        # Ada asks for what exists, so that her requests come past the door.
        real = "\n".join(["[parameters]", *lines]) if who == "ada" else ""
        (tmp_path / "schemathesis.toml").write_text(f"{SETTINGS}\n{real}\n")
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("schemathesis")),
            "run", f"{address}/openapi.json",
            "--seed", SEED, "--max-examples", EXAMPLES, "--checks", CHECKS,
            "--phases", phases, "--generation-database", "none",
            "--exclude-path-regex", UNENDING if who == "operator" else f"{UNENDING}|{CLOSED}",
            "--no-color", "--workers", "1", "--header", f"Authorization: {place.bearer(who)['authorization']}",
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS_MAX)
        failures = [line["status"] for line in place.logged("request") if line["status"] >= 500]

    assert process.returncode == 0, output.decode()[-8000:]
    assert not failures
    assert not place.logged("unforeseen")
