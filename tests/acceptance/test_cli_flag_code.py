"""Where code names flags, on the command line: on an installation, and told to a server elsewhere."""

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest
from command_line import Millrace, Ran

from millrace.api.serve import serving
from millrace.api.testing import town
from millrace.release.flags.testing import OLGA, switch

pytestmark = pytest.mark.services

SWITCH = switch()


def well(ran: Ran) -> dict[str, Any]:
    """Return the one JSON object of a command that ended well, without a word beside it."""
    assert (ran.status, ran.err) == (0, "")
    return ran.json


def test_references_and_stale(beside: Millrace, conninfo: str, tmp_path: Path) -> None:
    beside("flags", "set", "new-home", "--boolean")
    beside("flags", "set", "old-home", "--boolean")
    source = tmp_path / "code"
    source.mkdir()
    (source / "home.py").write_text(
        'if client.get_boolean_value("new-home", False):\n    client.get_string_value("gone", "")\n',
        encoding="utf-8",
    )

    found = well(beside("flags", "references", str(source), "--json"))
    assert found["unreferenced"] == ["old-home"]
    assert found["references"]["new-home"][0]["line"] == 1
    assert [(each["key"], each["line"]) for each in found["unknown"]] == [("gone", 2)]
    (source / "page.ts").write_text("const [on] = useBooleanFlagValue('lost', x)\n", "utf-8")
    assert "const [on] =" in beside("flags", "references", str(source)).out
    told = beside("flags", "references", str(source))
    assert (told.status, "home.py:1" in told.out) == (0, True)
    assert "no code names old-home" in told.out
    assert beside("flags", "references", str(source), "--strict").status == 1

    assert well(beside("flags", "stale", "--json")) == {"stale": []}
    assert "no flag is stale" in beside("flags", "stale").err

    with psycopg.connect(conninfo, autocommit=True) as db:
        # As if time had passed; the database refuses a change that its trail does not name.
        db.execute("set session_replication_role = replica")
        db.execute("update flag set created_at = created_at - interval '40 days'")
    stale = well(beside("flags", "stale", "--code", str(source), "--json"))["stale"]
    assert [(each["key"], each["kind"]) for each in stale] == [
        ("new-home", "not_evaluated"), ("old-home", "not_evaluated"), ("old-home", "unreferenced"),
    ]  # fmt: skip
    assert "the code names it 1 times" in stale[0]["next_step"]
    assert stale[2]["next_step"] == "`millrace flags remove old-home`"
    assert "never evaluated" in beside("flags", "stale", "--days", "39").out
    assert well(beside("flags", "stale", "--days", "41", "--json")) == {"stale": []}
    sent = beside("flags", "references", str(source), "--send", "shop")
    assert "kept as the newest scan of shop" in sent.err
    (scan,) = well(beside("flags", "scans", "--json"))["scans"]
    assert (scan["repository"], scan["flags"], scan["unnamed"]) == ("shop", 2, 1)
    told = well(beside("flags", "stale", "--json"))["stale"]
    assert "no reference in code since the scan of shop on" in told[2]["evidence"]
    assert (told[2]["key"], told[2]["kind"]) == ("old-home", "unreferenced")
    assert beside("flags", "scans", "--forget", "shop").status == 0
    assert "no code was searched" in beside("flags", "scans").err
    assert beside("flags", "set", "new-home", "--metadata", "permanent=true").status == 0
    assert "new-home" not in beside("flags", "stale").out


async def test_a_search_elsewhere_is_sent_to_a_server(
    beside: Millrace, conninfo: str, tmp_path: Path
) -> None:
    """A machine that has the code and no installation asks for the flags, and tells what it found."""
    source = tmp_path / "code"
    source.mkdir()
    (source / "home.py").write_text("flags.evaluate('named')\n", encoding="utf-8")
    token = tmp_path / "token"
    async with (
        town(conninfo, str(tmp_path / "town")) as place,
        serving(place.app, "127.0.0.1", 0) as address,
    ):
        for key in ("named", "nameless"):
            await place.program.flags.put(key, SWITCH, version=0, actor=OLGA, reason="for the test")

        async def sent(name: str, who: str) -> Ran:
            token.write_text(place.tokens[who], encoding="utf-8")
            proof = ("--server", address, "--token-file", str(token))
            told = ("flags", "references", str(source), "--send", name, *proof)
            return await asyncio.to_thread(beside, *told)

        assert (await sent("shop", "manager")).status == 0
        (scan,) = await place.program.flags.scans.lines()
        assert (scan.repository, scan.files, scan.flags, scan.unnamed) == ("shop", 1, 2, 1)
        assert scan.actor == "operator:rita"
        refused = await sent("shop", "ada")
        assert (refused.status != 0, "the server refuses with 403" in refused.err) == (True, True)
        assert "is no name of a repository" in (await sent("a b", "manager")).err
    assert "does not answer" in (await sent("shop", "manager")).err
