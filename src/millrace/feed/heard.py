"""What changes mean for vectors: which are to be made again, at once or by and by. Pure."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from msgspec import Struct, field

from millrace.community.types import POSITIVE_ACTIONS, Key
from millrace.store.changes.types import Change, Operation, Value
from millrace.store.types import Position

FEW_MAX = 20
"""Rows of a kind in one transaction that are somebody at work; more are an import."""

TABLES = frozenset(
    {
        "post", "member", "community", "nearby", "block", "reaction", "engagement",
        "member_embedding", "percentile_scale",
    }
)  # fmt: skip
HISTORIES = frozenset({"nearby", "block", "reaction", "engagement"})
"""What changes a history, or which posts of one may be seen, and nothing else."""
POSITIVE = frozenset(kind.value for kind in POSITIVE_ACTIONS)


class Heard(Struct):
    """What a batch of changes asks for.

    posts: to be looked at now.
    backlog: whether posts, maybe many, are to be found in the tables by and by.
    members: to be looked at when their visit is over.
    at_once: members to be looked at now.
    many_members: the same, of bulk work.
    edited: posts whose text or audience may have changed, so that histories with them did.
    shut: members who changed, and whether they, and so their posts, are out of everybody's sight.
    authors: members whose newest posts name them anew.
    communities: whose members may see other posts than before.
    scales: communities whose percentiles were made anew.
    everybody: whether the log does not say who, so every member is to be looked at.
    """

    posts: set[Key] = field(default_factory=set[Key])
    backlog: bool = False
    members: set[Key] = field(default_factory=set[Key])
    at_once: set[Key] = field(default_factory=set[Key])
    many_members: set[Key] = field(default_factory=set[Key])
    edited: set[Key] = field(default_factory=set[Key])
    shut: dict[Key, bool] = field(default_factory=dict[Key, bool])
    authors: set[Key] = field(default_factory=set[Key])
    communities: set[int] = field(default_factory=set[int])
    scales: set[int] = field(default_factory=set[int])
    everybody: bool = False


def heard(changes: Sequence[Change], *, in_words: bool = True) -> Heard:
    """Return what these changes ask for.

    Args:
        changes: in their order.
        in_words: whether the prompt of any member shows their history. If not, then what they do, and
            what becomes of posts that they liked, changes no vector.
    """
    found = Heard()
    by_work: defaultdict[tuple[Position, str], list[Change]] = defaultdict(list)
    for change in changes:
        if in_words or change.table not in HISTORIES:
            by_work[change.position, change.table].append(change)
    for (_, table), work in by_work.items():
        if any(change.op is Operation.TRUNCATE for change in work):
            found.backlog = found.everybody = True
        else:
            _READERS[table](found, work)
    return found


def _posts(found: Heard, work: Sequence[Change]) -> None:
    keys = {_key(change) for change in work}
    if len(keys) > FEW_MAX:
        found.backlog = True
    else:
        found.posts |= keys
    found.edited |= {_key(change) for change in work if change.op is not Operation.CREATE}


def _members(found: Heard, work: Sequence[Change]) -> None:
    changed = [change for change in work if change.op is not Operation.CREATE]
    if len(changed) > FEW_MAX:
        found.backlog = True
        found.many_members |= {_key(change) for change in changed}
    else:
        found.at_once |= {_key(change) for change in changed}
        found.authors |= {_key(change) for change in changed}
    found.shut |= {_key(change): _is_shut(change) for change in changed}


def _communities(found: Heard, work: Sequence[Change]) -> None:
    found.backlog |= any(change.op is not Operation.CREATE for change in work)


def _nearby(found: Heard, work: Sequence[Change]) -> None:
    found.communities |= {_number(change.key[0]) for change in work}


def _blocks(found: Heard, work: Sequence[Change]) -> None:
    for change in work:
        found.at_once |= {_key(change), Key(_number(change.key[2]), _number(change.key[3]))}


def _acts(found: Heard, work: Sequence[Change]) -> None:
    acted = Counter(_key(change) for change in work if _is_positive(change))
    if len(acted) > FEW_MAX:
        found.many_members |= acted.keys()
    else:
        found.members |= acted.keys()


def _new_vectors(found: Heard, work: Sequence[Change]) -> None:
    """Look again at a member whose first vector was made beside us: what was heard meanwhile was
    not for anybody who had one."""
    created = {_key(change) for change in work if change.op is Operation.CREATE}
    if len(created) > FEW_MAX:
        found.many_members |= created
    else:
        found.members |= created


def _scales(found: Heard, work: Sequence[Change]) -> None:
    found.scales |= {_number(change.key[0]) for change in work}


_READERS = {
    "post": _posts,
    "member": _members,
    "community": _communities,
    "nearby": _nearby,
    "block": _blocks,
    "reaction": _acts,
    "engagement": _acts,
    "member_embedding": _new_vectors,
    "percentile_scale": _scales,
}
assert _READERS.keys() == TABLES, "every table that is asked for has a reader"


def _is_shut(change: Change) -> bool:
    row = change.after
    return row is None or row.get("removed_at") is not None or row.get("banned_at") is not None


def _is_positive(change: Change) -> bool:
    """Return whether a row belongs into a history. The kind is part of both keys, at its end."""
    return change.key[-1] in POSITIVE


def _key(change: Change) -> Key:
    """Return community and member, or post: the first two columns of every key."""
    return Key(_number(change.key[0]), _number(change.key[1]))


def _number(value: Value) -> int:
    assert isinstance(value, int), f"an id is a number, not {value!r}"
    return value
