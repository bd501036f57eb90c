"""Goal: whatever people, schedules and second pairs of eyes do, no change is lost or made twice."""

import itertools
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from millrace.community.testing import NOON
from millrace.kernel.clock import ManualClock
from millrace.kernel.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from millrace.release.flags.testing import OLGA, OSCAR, flags_on, split, switch
from millrace.release.flags.types import Approval, Flag, FlagConfig, RequestState, Terms

pytestmark = pytest.mark.services

KEYS = ("one", "two")
ACTORS = (OLGA, OSCAR)
VERBS = ("put", "put", "later", "chain", "kill", "revive", "revert", "remove")
DECISIONS = ("approve", "approve", "reject", "cancel", "wait", "wait")
OPEN = (RequestState.PROPOSED, RequestState.APPROVED)
numbers = itertools.count(1)
steps = st.lists(
    st.tuples(
        st.sampled_from((*VERBS, *DECISIONS)),
        st.sampled_from(KEYS),
        st.integers(0, 3),
        st.sampled_from((0, 0, 0, -1, 1)),
        st.sampled_from((0, 1)),
    ),
    min_size=1,
    max_size=30,
)


def text(number, state="ENABLED"):
    """One of four definitions."""
    share = split(10 if number & 2 else 20)
    return switch("on" if number & 1 else "off", state=state, targeting=share)


class Model:
    """What must be so, in words that owe nothing to the code."""

    def __init__(self, reviewed):
        self.reviewed = reviewed
        self.now = NOON
        self.stands = {}  # key -> (version, content)
        self.trail = {key: [] for key in KEYS}  # (version, move, before, after)
        self.requests = []
        self.order = itertools.count()
        self.made = {}  # (key, version) -> when, and the place of the request that made it

    def version(self, key):
        return self.stands.get(key, (0, ""))[0]

    def write(self, key, move, content, place=None):
        _, before = self.stands.get(key, (0, ""))
        if content == before and move != "kill":
            return
        version = len(self.trail[key]) + 1
        self.trail[key].append((version, move, before, content))
        self.made[key, version] = next(self.order), place
        if content:
            self.stands[key] = (version, content)
        else:
            del self.stands[key]

    def want(self, verb, key, number, off, who):
        """Return what becomes of a wish."""
        version, content = self.stands.get(key, (0, ""))
        if verb == "kill" and version:
            self.write(key, "kill", content.replace("ENABLED", "DISABLED"))
        if verb == "kill":
            return "made" if version else "missing"
        content = self.wanted(verb, key, number)
        if content in ("missing", "invalid"):
            return content
        due = self.now + timedelta(hours=number + 1) if verb in ("later", "chain") else None
        base = self.next(key) if verb == "chain" else max(0, version + off)
        waits = self.reviewed or due is not None
        ahead = waits and base > version and base - 1 in [one["base"] for one in self.open(key)]
        if base != version and not ahead:
            return "conflict"
        if not content and not version:
            return "missing"
        move = "put" if due else verb
        if not waits:
            self.write(key, move, content)
            return "made"
        state = RequestState.PROPOSED if self.reviewed else RequestState.APPROVED
        asked = {"move": move, "content": content, "base": base, "by": who, "due": due}
        asked["order"] = next(self.order)
        self.requests.append({"key": key, "state": state} | asked)
        return "waits"

    def wanted(self, verb, key, number):
        """Return the definition that a wish is for."""
        if verb == "revive":
            stands = self.stands.get(key, (0, ""))[1]
            return stands.replace("DISABLED", "ENABLED") or "missing"
        if verb == "revert":
            there = 1 <= number <= len(self.trail[key])
            return (self.trail[key][number - 1][3] or "invalid") if there else "missing"
        return "" if verb == "remove" else text(number)

    def next(self, key):
        """Return the version that the last open request of a key would make."""
        return max([self.version(key), *(one["base"] + 1 for one in self.open(key))])

    def open(self, key):
        return [one for one in self.requests if one["key"] == key and one["state"] in OPEN]

    def decide(self, verb, number, who):
        """Return what becomes of a decision about one of the requests."""
        one = self.requests[number]
        if one["state"] not in ((OPEN) if verb == "cancel" else OPEN[:1]):
            return "conflict"
        if verb == "approve" and one["by"] == who:
            return "forbidden"
        after = {"approve": "approved", "reject": "rejected", "cancel": "cancelled"}[verb]
        one["state"] = RequestState(after)
        if verb == "approve" and one["due"] is None:
            self.carry_out(one)
        return "made"

    def carry_out(self, one):
        version = self.version(one["key"])
        ahead = one["base"] > version
        if ahead and one["base"] - 1 in [other["base"] for other in self.open(one["key"])]:
            return
        if one["base"] != version or not self.is_its_own(one):
            one["state"] = RequestState.FAILED
            return
        place = next(n for n, other in enumerate(self.requests) if other is one)
        self.write(one["key"], one["move"], one["content"], place)
        one["state"] = RequestState.APPLIED

    def is_its_own(self, one):
        """Return whether its base stood when it was asked for, or the one before it made it."""
        when, place = self.made.get((one["key"], one["base"]), (-1, None))
        before = [
            n for n, other in enumerate(self.requests)
            if (other["key"], other["base"]) == (one["key"], one["base"] - 1)
            and other["order"] < one["order"]
        ]  # fmt: skip
        return when < one["order"] or (bool(before) and place == before[-1])

    def wait(self, hours):
        self.now += timedelta(hours=hours)
        order = sorted((one["key"], one["base"], place) for place, one in enumerate(self.requests))
        for _, _, place in order:
            one = self.requests[place]
            due = one["due"] is None or one["due"] <= self.now
            if one["state"] is RequestState.APPROVED and due:
                self.carry_out(one)


class Book:
    """The same, in the database."""

    def __init__(self, router, reviewed):
        self.clock = ManualClock(NOON)
        approval = Approval.REQUIRED if reviewed else Approval.NONE
        node = next(numbers)  # every example is a process of its own: no two make the same ids
        self.flags = flags_on(
            router, clock=self.clock, node=node % 1024, config=FlagConfig(approval=approval)
        )
        self.prefix = f"{node}."
        self.ids = []

    async def want(self, model, verb, key, number, off, who):
        flags, name = self.flags, self.prefix + key
        version = max(0, model.version(key) + off)
        said = {"actor": ACTORS[who], "reason": "because"}
        terms = Terms()
        if verb in ("later", "chain"):
            terms = Terms(due_at=model.now + timedelta(hours=number + 1))
        if verb == "chain":
            version = model.next(key)
        if verb in ("put", "later", "chain"):
            found = flags.put(name, text(number), version=version, terms=terms, **said)
        elif verb == "kill":
            found = flags.kill(name, **said)
        elif verb == "revert":
            found = flags.revert(name, number, version=version, **said)
        else:
            found = getattr(flags, verb)(name, version=version, **said)
        made = await _became(found)
        if isinstance(made, str) or made is None or isinstance(made, Flag):
            return made if isinstance(made, str) else "made"
        self.ids.append(made.id)
        return "waits"

    async def decide(self, verb, number, who):
        said = [self.ids[number], ACTORS[who]] + (["no"] if verb == "reject" else [])
        made = await _became(getattr(self.flags, verb)(*said))
        return made if isinstance(made, str) else "made"


async def _became(work):
    try:
        return await work
    except ConflictError:
        return "conflict"
    except NotFoundError:
        return "missing"
    except InvalidError:
        return "invalid"
    except ForbiddenError:
        return "forbidden"


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(reviewed=st.booleans(), tried=steps)
@example(  # a chain of which the middle is taken back, and one that a kill overtakes
    reviewed=False,
    tried=[
        ("put", "one", 0, 0, 0), ("later", "one", 1, 0, 0), ("chain", "one", 0, 0, 0),
        ("chain", "one", 2, 0, 0), ("wait", "one", 1, 0, 0), ("cancel", "one", 1, 0, 0),
        ("wait", "one", 3, 0, 0),
        ("later", "one", 3, 0, 0), ("kill", "one", 0, 0, 0), ("wait", "one", 3, 0, 0),
    ],
)  # fmt: skip
@example(  # a kill takes the place of a chain's first step: those after it must not undo it
    reviewed=False,
    tried=[
        ("put", "one", 0, 0, 0), ("later", "one", 1, 0, 0), ("chain", "one", 2, 0, 0),
        ("chain", "one", 3, 0, 0), ("kill", "one", 0, 0, 0), ("wait", "one", 9, 0, 0),
        ("wait", "one", 9, 0, 0),
    ],
)  # fmt: skip
@example(  # nobody approves their own, not even a removal; what is removed comes back by a revert
    reviewed=True,
    tried=[
        ("put", "one", 0, 0, 0), ("approve", "one", 0, 0, 0), ("approve", "one", 0, 0, 1),
        ("remove", "one", 0, 0, 1), ("approve", "one", 1, 0, 0), ("revert", "one", 1, 0, 0),
        ("approve", "one", 2, 0, 1), ("kill", "one", 0, 0, 0), ("approve", "one", 2, 0, 1),
    ],
)  # fmt: skip
async def test_every_change_is_made_once_and_told_once(router, reviewed, tried):
    """Random wishes and decisions: those that must be are made, and the trail says all of it."""
    model, book = Model(reviewed), Book(router, reviewed)
    for verb, key, number, off, who in tried:
        if verb == "wait":
            model.wait(number)
            book.clock.move(number * 3600)
            await book.flags.apply_due(book.clock.now())
        elif verb in VERBS:
            became = await book.want(model, verb, key, number, off, who)
            assert became == model.want(verb, key, number, off, who), (verb, key)
        elif number < len(model.requests):
            assert await book.decide(verb, number, who) == model.decide(verb, number, who), verb

    await _same(model, book)


async def _same(model, book):
    """What stands, the trail of each key, and the state of every request."""
    found = await book.flags.list(prefix=book.prefix)
    for key in KEYS:
        trail = await book.flags.history(book.prefix + key)
        told = [(line.version, line.move, line.before, line.after) for line in reversed(trail)]
        assert told == model.trail[key]
    assert {flag.key: (flag.version, flag.content) for flag in found} == {
        book.prefix + key: stands for key, stands in model.stands.items()
    }
    states = {one.id: one.state for one in await book.flags.requests(limit=1_000)}
    assert [states[number] for number in book.ids] == [one["state"] for one in model.requests]
    await book.flags.load()
    assert {
        key: text for key, text in book.flags.live.texts.items() if key.startswith(book.prefix)
    } == {flag.key: flag.content for flag in found}
