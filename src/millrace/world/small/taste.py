"""Who saw and did what: a simple taste for each member, and sessions in the order of time."""

import math
from typing import Any

from msgspec import Struct, field

from millrace.kernel.rng import Rng

DAY = 86_400
SESSION_DAYS = 14
POST_AGE_MAX = 10 * DAY
PAGE = 8


class Person(Struct):
    """A member with what moves them. `activity` is 1 on average."""

    external_id: str
    community: str
    interests: set[str]
    activity: float
    follows: set[str] = field(default_factory=set[str])
    seen: set[str] = field(default_factory=set[str])


class Shown(Struct):
    """A post as the simulation sees it. `age` is in seconds before now."""

    external_id: str
    community: str
    author: str
    topics: set[str]
    age: int
    charm: float
    likes: int = 0


def sessions(
    people: list[Person], posts: list[Shown], rng: Rng
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return impressions and engagements, oldest first, with `age` in seconds in place of a time."""
    visits = sorted(
        (
            (rng.randrange(300, SESSION_DAYS * DAY), person)
            for person in people
            for _ in range(min(9, int(rng.expovariate(1 / (3.3 * person.activity)))))
        ),
        key=lambda visit: -visit[0],
    )
    homes: dict[str, list[Shown]] = {}
    for post in posts:
        homes.setdefault(post.community, []).append(post)
    impressions: list[dict[str, Any]] = []
    engagements: list[dict[str, Any]] = []
    for age, person in visits:
        for position, post in enumerate(_page(person, homes[person.community], age, rng)):
            person.seen.add(post.external_id)
            at = age - 4 * position
            named = {"community": person.community, "member": person.external_id}
            named["post"] = post.external_id
            impressions.append({**named, "position": position, "age": at})
            for kind, dwell_ms in _reaction(person, post, position, rng):
                post.likes += kind == "like"
                done = {**named, "kind": kind, "position": position, "age": at - 2}
                engagements.append(done if dwell_ms is None else {**done, "dwell_ms": dwell_ms})
    return impressions, engagements


def _page(person: Person, posts: list[Shown], age: int, rng: Rng) -> list[Shown]:
    """Return what a plain feed would show: new, liked and followed first, with some chance."""
    there = [
        post
        for post in posts
        if 0 < post.age - age < POST_AGE_MAX
        and post.external_id not in person.seen
        and post.author != person.external_id
    ]

    def score(post: Shown) -> float:
        fresh = -(post.age - age) / (1.5 * DAY)
        known = 0.8 if post.author in person.follows else 0.0
        return fresh + known + 0.3 * math.log1p(post.likes) + rng.gauss(0, 0.8)

    return sorted(there, key=score, reverse=True)[: rng.randint(4, PAGE)]


def _reaction(person: Person, post: Shown, position: int, rng: Rng) -> list[tuple[str, int | None]]:
    """Return what a member does with a post: the kinds, and how long they stayed."""
    fit = len(person.interests & post.topics)
    pull = (
        -1.9
        + 1.5 * min(fit, 2)
        + 0.9 * (post.author in person.follows)
        + 0.25 * math.log1p(post.likes)
        - 0.12 * position
        + post.charm
    )
    if fit == 0 and rng.random() < 0.02:
        return [("hide", None)]
    if rng.random() > _chance(pull):
        return []
    done: list[tuple[str, int | None]] = [("click", None)]
    if rng.random() < _chance(pull):
        done.append(("long_dwell", rng.randrange(15_000, 120_000)))
    if rng.random() < _chance(pull + 0.1):
        done.append(("like", None))
    if rng.random() < _chance(pull - 3.5):
        done.append(("share", None))
    return done


def _chance(pull: float) -> float:
    return 1 / (1 + math.exp(-pull))
