"""A small folder of examples, written with pyarrow alone, so that tests can make any mistake in it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from millrace.feed.examples.types import FORMAT, MANIFEST, TABLES, Counts, Manifest, schemas
from millrace.feed.examples.writing import fingerprint_of

START = datetime(2026, 1, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TOPICS = ("gardens", "trains", "quantum gates", "bread", "rivers")
MEMBERS, POSTS, STATES, SHOWN = 12, 60, 2, 5
COMMUNITIES = 2

Table = dict[str, list[Any]]


def tables(seed: int = 1, moments: int = 80) -> dict[str, Table]:
    """Return the columns of each table: two communities, posts of two states, histories that grow."""
    draw = np.random.default_rng(seed)
    made: dict[str, Table] = {
        name: {one.name: [] for one in schema} for name, schema in schemas().items()
    }
    for post in range(POSTS):
        _add(made["wordings"], **_wording(draw, post))
        for state in range(STATES):
            _add(made["posts"], **_state(draw, post, state))
    for member in range(MEMBERS):
        _add(made["members"], **_member(member))
    pasts: list[list[tuple[int, bool]]] = [[] for _ in range(MEMBERS)]
    for number in range(moments):
        _add(made["moments"], **_moment(draw, number, moments, pasts))
    return made


def _wording(draw: np.random.Generator, post: int) -> dict[str, Any]:
    topic = TOPICS[post % len(TOPICS)]
    words = " ".join(draw.choice(TOPICS, int(draw.integers(1, 12))).tolist())
    return {
        "post": post, "kind": "text", "author_name": f"Author {post % 7}", "headline": "", "topics": [topic],
        "community": f"community {post % COMMUNITIES}", "title": f"{topic} {post}", "text": words,
    }  # fmt: skip


def _state(draw: np.random.Generator, post: int, state: int) -> dict[str, Any]:
    known_at = START + (post * 10 + state * 30) * MINUTE
    numbers = draw.integers(0, 100, 6).tolist()
    return {
        "post": post, "community_id": post % COMMUNITIES, "post_id": post + 1_000, "author": MEMBERS + post % 7,
        "wording": post, "known_at": known_at, "percentiles": numbers, "numbers": [one * 50 for one in numbers],
    }  # fmt: skip


def _member(member: int) -> dict[str, Any]:
    return {
        "member": member, "community_id": member % COMMUNITIES, "member_id": member + 500, "known_at": START - MINUTE,
        "display_name": f"Member {member}", "headline": f"likes {TOPICS[member % len(TOPICS)]}",
        "about": "", "skills": ["reading"], "place": "Here", "languages": ["en"],
    }  # fmt: skip


def _moment(
    draw: np.random.Generator, number: int, moments: int, pasts: list[list[tuple[int, bool]]]
) -> dict[str, Any]:
    member = int(draw.integers(MEMBERS))
    at = START + (POSTS * 10 + 100) * MINUTE + number * timedelta(hours=2)
    past = pasts[member]
    known = {state // STATES for state, done in past if done}
    own = [post for post in range(member % COMMUNITIES, POSTS, COMMUNITIES) if post not in known]
    chosen = draw.choice(own, min(SHOWN, len(own)), replace=False).tolist()
    shown = [post * STATES + int(draw.integers(STATES)) for post in chosen]
    engaged = (draw.random(len(shown)) < 0.4).tolist()
    positives = [state for state, done in past if done]
    row = {
        "at": at, "member_state": member, "positives": positives, "positives_at": [at - MINUTE] * len(positives),
        "past": [state for state, _ in past], "past_engaged": [done for _, done in past],
        "shown": shown, "engaged": engaged, "positions": list(range(len(shown))), "features": [],
        "served_feed_id": number, "encoder": "", "replayed": True, "lone": False,
        "known_until": at - MINUTE, "labelled_until": at + timedelta(hours=1),
    }  # fmt: skip
    past.extend(zip(shown, engaged, strict=True))
    return row


def _add(table: Table, **row: Any) -> None:
    for name, value in row.items():
        table[name].append(value)


def write(
    folder: Path, made: dict[str, Table], change: Callable[[dict[str, Any]], None] = lambda _: None
) -> Path:
    """Write the tables with a manifest; `change` may spoil what the manifest says."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        write_table(folder / f"{name}.arrow", pa.table(made[name], schema=schema))
    files = {name: f"{name}.arrow" for name in TABLES}
    manifest = Manifest(
        format=FORMAT, made_at=START, cut_at=START + timedelta(days=60), label_hours=1.0, prompt_version="v2",
        encoding="arrow", tables=files, fingerprint=fingerprint_of(folder, files), counts=Counts(),
        feature_names=[], assumed=[],
    )  # fmt: skip
    said = msgspec.to_builtins(manifest)
    change(said)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(said))
    return folder


def write_table(path: Path, table: pa.Table, rows: int = 32) -> None:
    """Write a table in several pieces, as an export of any length does."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
