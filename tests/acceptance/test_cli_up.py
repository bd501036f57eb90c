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
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue

import httpx
import pytest

READY = re.compile(r"^Millrace is ready at (http://\S+)$")
READY_SECONDS_MAX = 120
END_SECONDS_MAX = 30


class Up:
    """A running `millrace up`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "millrace", "up", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(folder),
        )
        self._lines: Queue[str] = Queue()
        self.heard: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._listen_to_errors, daemon=True).start()
        self.address = self._await_ready()
        self.seconds = time.monotonic() - self.began

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line.rstrip("\n"))
        self._lines.put("")

    def _listen_to_errors(self) -> None:
        self.heard.extend(self.process.stderr or ())

    def _await_ready(self) -> str:
        try:
            line = self._lines.get(timeout=READY_SECONDS_MAX)
        except Empty:
            self.process.kill()
            raise AssertionError(f"not ready in time: {self.heard}") from None
        found = READY.match(line)
        assert found, f"{line!r} is not the ready line; it said: {''.join(self.heard)}"
        return found[1]

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=END_SECONDS_MAX)


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which only the data folder is set."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return clean | {"MILLRACE_STORE_DATA_DIR": str(folder)}


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "millrace", *arguments],
        capture_output=True, text=True, check=False, env=environment(folder), timeout=120,
    )  # fmt: skip


def answer(folder: Path, *arguments: str) -> dict:  # type: ignore[type-arg]
    """Run a command with --json and return its object; nothing else may be on standard output."""
    done = command(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that the server's own user can enter."""
    made = Path(tempfile.mkdtemp(prefix="millrace-up-"))
    made.chmod(0o755)
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
def test_a_day_of_up(folder: Path, ups: list[Up]) -> None:
    """Up with the small community: ready, used beside itself, refused twice, ended, up again."""
    up = Up(folder, "--demo")
    ups.append(up)

    assert httpx.get(f"{up.address}/health/ready").status_code == 200
    assert "text/html" in httpx.get(f"{up.address}/sign-in").headers["content-type"]

    token = answer(folder, "operator", "create", "grace")["token"]
    by_api = httpx.Client(base_url=up.address, headers={"Authorization": f"Bearer {token}"})
    member = by_api.get("/v1/members").json()["items"][0]
    shown = by_api.get(f"/v1/members/{member['id']}/feed?limit=5").json()["items"]
    assert len(shown) == 5
    assert all(item["reason"] for item in shown)

    by_command = answer(folder, "feed", member["id"], "--limit", "5")["items"]
    assert len(by_command) == 5
    reasons = answer(folder, "why", member["id"], by_command[0]["post_id"])
    assert reasons["sentence"]
    assert reasons["sources"]

    second = command(folder, "up", "--port", "0")
    assert second.returncode == 5
    assert f"process {up.process.pid} at {up.address}" in second.stderr
    assert "Traceback" not in second.stderr

    assert up.end(signal.SIGINT) == 0, "".join(up.heard)
    assert not is_listening(up.address)
    assert not (folder / "postgres" / "postmaster.pid").exists(), "the database was left running"


@pytest.mark.services
def test_nothing_is_lost_when_up_is_killed(folder: Path, ups: list[Up]) -> None:
    """A power cut in the middle: what was acknowledged is there after the next start."""
    up = Up(folder, "--demo")
    ups.append(up)
    token = answer(folder, "operator", "create", "grace")["token"]
    members = counted(up.address, token, "/v1/members")
    posts = counted(up.address, token, "/v1/posts")

    up.process.kill()
    up.process.wait(timeout=END_SECONDS_MAX)
    again = Up(folder, "--demo")
    ups.append(again)

    assert counted(again.address, token, "/v1/members") == members
    assert counted(again.address, token, "/v1/posts") == posts
    assert again.end(signal.SIGTERM) == 0


def counted(address: str, token: str, path: str) -> int:
    """Walk a list to its end by its cursors and return how many things it had."""
    seen: set[str] = set()
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}) as client:
        cursor = ""
        while True:
            page = client.get(path, params={"limit": 100, **({"cursor": cursor} if cursor else {})})
            assert page.status_code == 200, page.text
            seen |= {item["id"] for item in page.json()["items"]}
            cursor = page.json().get("next_cursor") or ""
            if not cursor:
                return len(seen)


@pytest.mark.services
def test_a_port_in_use_is_told_before_any_work(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]

        done = command(folder, "up", "--port", str(port))

    assert done.returncode == 3
    assert done.stdout == ""
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in done.stderr
    assert "--port" in done.stderr
    assert not folder.exists(), "work was done before the port was asked for"
