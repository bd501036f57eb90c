"""A town as a folder: the open import format, and the truth beside it, which an import ignores."""

import re
from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
from msgspec import Struct

from millrace.community.types import Action
from millrace.kernel.errors import InvalidError
from millrace.world.simulator.draws import Whole
from millrace.world.simulator.making import Watch, make
from millrace.world.simulator.tastes import mixed
from millrace.world.simulator.town import Town
from millrace.world.simulator.types import ACTIONS, DAY, VERSION, Done, Shown, TownConfig

TRUTH = "truth"
ABOUT = "town.json"
UNFINISHED = b'{"unfinished": true}\n'
"""Stands in the place of the description while the files are written."""
UNTRIED = ".millrace-town"
FORMAT = re.compile(
    r"(communities|members|posts|comments|follows|impressions|engagements)"
    r"\.(jsonl|jsonl\.gz|parquet)"
)
"""Files that an import reads, so that nobody's own are replaced or mixed with a town."""
COMMUNITY_DAYS = 1_000
"""Communities are this much older than day 0, so that every member joined after they began."""
ROWS_MAX = 100_000
"""Rows of a group of a Parquet file, and how many are put together at a time."""


def write(town: Town, folder: Path, watch: Watch, *, relative: bool = True) -> None:
    """Write a town as a folder that `millrace import dir` takes.

    Args:
        town: to write.
        folder: made if it is not there; files of a town that are there are replaced.
        watch: told of each file.
        relative: whether times count back from the first import, so that the town is never old;
            else they are moments from the config's start on.

    Passes on:
        InvalidError: the folder cannot be written, or holds what is no town's.
    """
    prepare(folder)
    try:
        writer = _Writer(town, folder, watch, relative=relative)
        writer.all()
    except OSError as exc:
        _unwritable(folder, exc)


def prepare(folder: Path) -> None:
    """Make the folder of a town, before there is one: making a town may take a minute.

    Raises:
        InvalidError: it holds files of an import that are no town's.

    Passes on:
        InvalidError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / UNTRIED).touch()
        (folder / UNTRIED).unlink()
        foreign = [] if _is_ours(folder) else sorted(one.name for one in folder.glob("*.*"))
    except OSError as exc:
        _unwritable(folder, exc)
    held = [name for name in foreign if name == ABOUT or FORMAT.fullmatch(name)]
    if held:
        raise InvalidError(
            f"{folder} holds {held[0]}, which is not of a town that was written there",
            field="DIR",
            value=str(folder),
            limit="a new folder, an empty one, or one of an earlier town",
            next_step="name another folder",
        )


def _is_ours(folder: Path) -> bool:
    """Return whether a town was written to a folder, to its end or not."""
    try:
        text = (folder / ABOUT).read_bytes()
        return text == UNFINISHED or bool(msgspec.json.decode(text, type=About))
    except (FileNotFoundError, msgspec.DecodeError):
        return False


def _unwritable(folder: Path, failure: OSError) -> NoReturn:
    """Say why a folder cannot be written.

    Raises:
        InvalidError: always.
    """
    raise InvalidError(
        f"{folder} cannot be written: {failure.strerror or failure}",
        field="DIR",
        value=str(folder),
        next_step="name a folder that you may write",
    ) from failure


def about(town: Town) -> dict[str, object]:
    """Return what a town is: its version, parameters, digest and numbers."""
    return {
        "version": VERSION,
        "config": msgspec.to_builtins(town.config),
        "digest": town.digest(),
        "members": len(town.people),
        "posts": len(town.posts),
        "comments": len(town.remarks),
        "follows": len(town.bonds),
        "impressions": len(town.shown),
        "engagements": len(town.done),
    }


class About(Struct, frozen=True):
    """What a folder says of the town in it."""

    version: str
    config: TownConfig
    digest: str


def read(folder: Path, watch: Watch) -> Town:
    """Return the town of a folder, with its truth: made again from what `town.json` says.

    Raises:
        InvalidError: the folder has no town, one of another version, or it comes out different.
    """
    try:
        found = msgspec.json.decode((folder / ABOUT).read_bytes(), type=About)
    except (OSError, msgspec.DecodeError) as exc:
        said = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise InvalidError(
            f"{folder} has no readable {ABOUT}: {said}",
            field="DIR",
            value=str(folder),
            next_step="name a folder that `millrace town make` wrote to its end",
        ) from exc
    if found.version != VERSION:
        _refuse(folder, f"is of version {found.version!r}, this program makes {VERSION!r}")
    town = make(found.config, watch)
    if town.digest() != found.digest:
        _refuse(folder, "comes out different here, so its truth is not known")
    return town


def _refuse(folder: Path, reason: str) -> NoReturn:
    """Say why the truth of a folder cannot be had.

    Raises:
        InvalidError: always.
    """
    raise InvalidError(
        f"the town in {folder} {reason}",
        field="DIR",
        value=str(folder),
        next_step="make it anew with `millrace town make`",
    )


def by_post(homes: Whole, log: Shown | Done, rows: Whole | None = None) -> Whole:
    """Return rows of a log, all of them or these, in the best order for an import.

    Community by community, so that a batch has one home; post by post within it, so that a batch
    moves the counters of few posts. The order of time has no meaning for a log.
    """
    kept = np.arange(len(log)) if rows is None else rows
    return kept[np.lexsort((log.at[kept], log.post[kept], homes[log.member[kept]]))]


class _Writer:
    """Writes the files of one town."""

    def __init__(self, town: Town, folder: Path, watch: Watch, *, relative: bool) -> None:
        self._town = town
        self._folder = folder
        self._watch = watch
        self._relative = relative
        self._arrow: Any = import_module("pyarrow")
        self._parquet: Any = import_module("pyarrow.parquet")
        self._compute: Any = import_module("pyarrow.compute")
        self._homes = np.array([one.community for one in town.people], dtype=np.int64)
        self._names = [one.external_id for one in town.people]
        self._posts = [one.external_id for one in town.posts]

    def all(self) -> None:
        """Write every file, the description last: a folder that has one is whole."""
        (self._folder / ABOUT).write_bytes(UNFINISHED)
        town = self._town
        lines = [
            msgspec.to_builtins(place) | {"created_at": self._time(-COMMUNITY_DAYS * DAY)}
            for place in town.places
        ]
        text = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        (self._folder / "communities.jsonl").write_bytes(text)
        self._members()
        self._written()
        self._bonds()
        self._log()
        self._truth()
        found = msgspec.json.format(msgspec.json.encode(about(town)), indent=2)
        (self._folder / ABOUT).write_bytes(found + b"\n")

    def _members(self) -> None:
        people = self._town.people
        self._save(
            "members",
            {
                "community": self._home_names(self._homes),
                "external_id": self._names,
                "display_name": [one.display_name for one in people],
                "headline": [one.headline for one in people],
                "about": [one.about for one in people],
                "skills": [one.skills for one in people],
                "place": [one.place for one in people],
                "languages": [one.languages for one in people],
                "role": ["moderator" if one.moderates else "member" for one in people],
                "joined_at": self._times([one.joined for one in people]),
            },
        )

    def _written(self) -> None:
        posts, remarks = self._town.posts, self._town.remarks
        self._save(
            "posts",
            {
                "community": self._home_names([one.community for one in posts]),
                "external_id": self._posts,
                "author": [self._names[one.author] for one in posts],
                "kind": [one.kind.value for one in posts],
                "title": [one.title for one in posts],
                "text": [one.text for one in posts],
                "link": [one.link for one in posts],
                "topics": [one.topics for one in posts],
                "audience": [one.audience.value for one in posts],
                "created_at": self._times([one.created for one in posts]),
            },
        )
        self._save(
            "comments",
            {
                "community": self._home_names([posts[one.post].community for one in remarks]),
                "external_id": [one.external_id for one in remarks],
                "author": [self._names[one.author] for one in remarks],
                "post": [self._posts[one.post] for one in remarks],
                "parent": [
                    None if one.parent < 0 else remarks[one.parent].external_id for one in remarks
                ],
                "text": [one.text for one in remarks],
                "created_at": self._times([one.created for one in remarks]),
            },
        )

    def _bonds(self) -> None:
        bonds = self._town.bonds
        self._save(
            "follows",
            {
                "community": self._home_names([self._homes[one.member] for one in bonds]),
                "member": [self._names[one.member] for one in bonds],
                "target": [self._names[one.target] for one in bonds],
                "created_at": self._times([one.created for one in bonds]),
            },
        )

    def _log(self) -> None:
        """Write the logs in the order of `by_post`."""
        shown, done = self._town.shown, self._town.done
        order = by_post(self._homes, shown)
        self._save(
            "impressions",
            self._acts(shown.member[order], shown.post[order])
            | {
                "shown_at": self._times(shown.at[order]),
                "position": shown.position[order].astype(np.int32),
            },
        )
        # A comment is an engagement by itself, so its own row would be another one.
        kept = np.flatnonzero(done.kind != ACTIONS.index(Action.COMMENT))
        order = by_post(self._homes, done, kept)
        dwell = done.dwell_ms[order]
        self._save(
            "engagements",
            self._acts(done.member[order], done.post[order])
            | {
                "kind": self._picked([action.value for action in ACTIONS], done.kind[order]),
                "happened_at": self._times(done.at[order]),
                "position": done.position[order].astype(np.int32),
                "dwell_ms": self._arrow.array(dwell.astype(np.int32), mask=dwell < 0),
            },
        )

    def _truth(self) -> None:
        """Write what members like and what posts are, by external id: enough to judge by."""
        truth = self._town.truth
        eye = np.eye(truth.topics)
        ends = np.full(len(self._names), self._town.config.days * DAY)
        self._save(
            f"{TRUTH}_members",
            {
                "external_id": self._names,
                "interests_at_end": list(mixed(truth.minds, np.arange(len(ends)), ends, eye)),
                "activity": truth.minds.activity,
                "sociability": truth.minds.sociability,
                "recency": truth.minds.recency,
            },
        )
        self._save(
            f"{TRUTH}_posts",
            {
                "external_id": self._posts,
                "topic": truth.traits.topics[:, 0],
                "second_topic": truth.traits.topics[:, 1],
                "second_weight": truth.traits.weights[:, 1],
                "quality": truth.traits.quality,
            },
        )

    # ------------------------------------------------- columns

    def _acts(self, member: Whole, post: Whole) -> dict[str, Any]:
        return {
            "community": self._home_names(self._homes[member]),
            "member": self._picked(self._names, member),
            "post": self._picked(self._posts, post),
        }

    def _home_names(self, places: Sequence[int] | Whole) -> Any:
        return self._picked([one.external_id for one in self._town.places], places)

    def _picked(self, names: list[str], places: Sequence[int] | Whole) -> Any:
        """Return a column of names: each once, and for each row its place among them."""
        indexes = self._arrow.array(np.asarray(places, dtype=np.int32))
        return self._arrow.DictionaryArray.from_arrays(indexes, self._arrow.array(names))

    def _times(self, seconds: Sequence[int] | Whole) -> Any:
        """Return a column of times."""
        at = np.asarray(seconds, dtype=np.int64)
        if not self._relative:
            start = np.datetime64(self._town.config.start.replace(tzinfo=None), "us")
            moments = start + at.astype("timedelta64[s]")
            return self._arrow.array(moments, self._arrow.timestamp("us", "UTC"))
        back = self._arrow.array(self._town.config.days * DAY - at).cast(self._arrow.string())
        return self._compute.binary_join_element_wise("-PT", back, "S", "")

    def _time(self, seconds: int) -> str:
        """Return one time as text."""
        if self._relative:
            return f"-PT{self._town.config.days * DAY - seconds}S"
        return (self._town.config.start + timedelta(seconds=seconds)).isoformat()

    def _save(self, noun: str, columns: dict[str, Any]) -> None:
        """Write one file, whole or not at all."""
        table = self._arrow.table(columns)
        self._watch(f"{noun}.parquet", 0, table.num_rows)
        path = self._folder / f"{noun}.parquet"
        draft = path.with_suffix(".parquet.new")
        self._parquet.write_table(table, draft, row_group_size=ROWS_MAX, compression="zstd")
        draft.replace(path)
        self._watch(f"{noun}.parquet", table.num_rows, table.num_rows)
