"""Puts the small community together: `python -m millrace.world.small.make`.

Run by hand after a change of the texts; its output beside it is committed. The same seed and the
same texts always give the same files.
"""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from millrace.kernel.rng import Rng, rng
from millrace.world.small.everyday import Everyday
from millrace.world.small.taste import DAY, Person, Shown, sessions
from millrace.world.small.written import Written, written_posts

HERE = Path(__file__).parent
DATA = HERE / "data"
SEED = 1871

# Short name: external id, name, members, description.
PLACES = {
    "ML": ("mill-lane", "Mill Lane", 95, "The streets between the old mill and the quay."),
    "UT": ("upper-terrace", "Upper Terrace", 85, "The hill: from the baths to the water tower."),
    "WB": ("weir-bank", "Weir Bank Plots and Boats", 70, "Allotments, bees and the boat house."),
    "TI": ("tallowfinch", "Tallowfinch Instruments", 52, "We make river gauges, four bays of us."),
}
STREETS = {
    "ML": ["Chandler Street", "Tanner's Row", "the quay", "Cooper's Yard", "Mill Lane"],
    "UT": ["Larch Street", "Baths Hill", "the terrace", "by the water tower", "Tram Loop"],
    "WB": ["the lower path", "the long hedge", "by the pump", "Mill Lane", "Upper Terrace"],
    "TI": ["Mill Lane", "Upper Terrace", "the other bank", "Chandler Street"],
}
LEANING = {
    "ML": ["history", "music", "repair", "cooking", "safety", "markets", "kids", "books"],
    "UT": ["kids", "stars", "running", "traffic", "languages", "film", "books", "dogs"],
    "WB": ["veg", "garden", "compost", "bees", "rowing", "birds", "swimming", "weather"],
    "TI": ["electronics", "software", "work", "cycling", "wood", "chess", "repair", "health"],
}
OTHER_LANGUAGES = ["de", "pl", "tr", "pt", "fr", "ar", "cs"]
POST_DAYS = 24
HEADLINE_ONLY_SHARE = 0.05


def main() -> None:
    """Write all files."""
    chance = rng(SEED)
    people, members = _people(_toml("people.toml"), chance)
    posts = [*written_posts(HERE / "written"), *Everyday(_toml("parts.toml"), chance).posts()]
    chance.shuffle(posts)
    shown, drafts, comments = _posts(posts, people, chance)
    follows = _follows(people, shown, chance)
    everybody = [person for home in people.values() for person in home]
    impressions, engagements = sessions(everybody, shown, chance)
    _write("communities", _communities())
    _write("members", members)
    _write("posts", drafts)
    _write("comments", comments)
    _write("follows", follows)
    _write("impressions", [_timed(line, "shown_at") for line in impressions])
    _write("engagements", [_timed(line, "happened_at") for line in engagements])


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


def _write(noun: str, lines: list[dict[str, Any]]) -> None:
    text = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    (DATA / f"{noun}.jsonl").write_bytes(text)


def before(seconds: int) -> str:
    """Return a relative time: so many seconds before the first import."""
    days, rest = divmod(seconds, DAY)
    hours, rest = divmod(rest, 3600)
    return f"-P{days}DT{hours}H{rest // 60}M{rest % 60}S"


def _timed(line: dict[str, Any], name: str) -> dict[str, Any]:
    age = line["age"]
    return {key: value for key, value in line.items() if key != "age"} | {name: before(age)}


def _communities() -> list[dict[str, Any]]:
    ids = [place[0] for place in PLACES.values()]
    return [
        {
            "external_id": external_id,
            "name": name,
            "description": description,
            "place": "the valley",
            "nearby": [one for one in ids if one != external_id],
            "created_at": before(1000 * DAY),
        }
        for external_id, name, _, description in PLACES.values()
    ]


# ------------------------------------------------- people


def _people(
    source: dict[str, Any], chance: Rng
) -> tuple[dict[str, list[Person]], list[dict[str, Any]]]:
    """Return the people of each community, and their drafts."""
    names = [f"{first} {last}" for first in source["first"] for last in source["last"]]
    chance.shuffle(names)
    people: dict[str, list[Person]] = {}
    drafts: list[dict[str, Any]] = []
    for short, (community, _, count, _) in PLACES.items():
        people[community] = []
        for number in range(1, count + 1):
            person = Person(
                external_id=f"{community}-{number:03}",
                community=community,
                interests=_interests(source, short, chance),
                activity=chance.lognormvariate(-0.3, 0.8),
            )
            people[community].append(person)
            drafts.append(_member(source, short, person, names.pop(), chance))
            if number <= 2:
                drafts[-1]["role"] = "moderator"
    return people, drafts


def _interests(source: dict[str, Any], short: str, chance: Rng) -> set[str]:
    own = chance.sample(LEANING[short], chance.randint(1, 3))
    others = chance.sample(sorted(source["interests"]), chance.randint(1, 2))
    return {*own, *others}


def _member(
    source: dict[str, Any], short: str, person: Person, name: str, chance: Rng
) -> dict[str, Any]:
    interests = sorted(person.interests)
    chance.shuffle(interests)
    known = [source["interests"][one] for one in interests]
    job, tail = chance.choice(source["jobs"][short]), chance.choice(known[0]["tails"])
    headline = chance.choice(
        [f"{job}, {tail}", f"{job}. {tail[0].upper()}{tail[1:]}.", f"{job}; {tail}"]
    )
    draft: dict[str, Any] = {
        "external_id": person.external_id,
        "community": person.community,
        "display_name": name,
        "headline": headline,
        "joined_at": before(chance.randrange(40 * DAY, 950 * DAY)),
    }
    if chance.random() < HEADLINE_ONLY_SHARE:
        return draft
    about = [chance.choice(one["about"]) for one in known[: chance.randint(1, 3)]]
    other = chance.sample(OTHER_LANGUAGES, chance.choice([0, 0, 1, 1, 2]))
    return draft | {
        "about": " ".join(about),
        "skills": sorted({chance.choice(one["skills"]) for one in known}),
        "place": chance.choice(STREETS[short]),
        "languages": ["en", *other],
    }


# ------------------------------------------------- posts and threads


def _posts(
    posts: list[Written], people: dict[str, list[Person]], chance: Rng
) -> tuple[list[Shown], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the posts as the simulation sees them, their drafts, and the comments."""
    ages = sorted((_post_age(chance) for _ in posts), reverse=True)
    shown: list[Shown] = []
    drafts: list[dict[str, Any]] = []
    comments: list[dict[str, Any]] = []
    for number, (post, age) in enumerate(zip(posts, ages, strict=True), 1):
        community = PLACES[post.community][0]
        home = people[community]
        author = _one_of(home, set(post.topics), chance, without=set())
        seen = Shown(
            external_id=f"{community}-p{number:03}",
            community=community,
            author=author.external_id,
            topics=set(post.topics),
            age=age,
            charm=chance.gauss(0.4 if post.thread else 0.0, 0.4),
        )
        shown.append(seen)
        drafts.append(_draft(post, seen))
        comments += _thread(post, seen, home, chance)
    return shown, drafts, comments


def _post_age(chance: Rng) -> int:
    """Return an age in seconds: the newest are minutes old, and there are more new than old."""
    return 900 + int(POST_DAYS * DAY * chance.random() ** 1.6)


def _one_of(home: list[Person], topics: set[str], chance: Rng, *, without: set[str]) -> Person:
    weights = [
        0.0
        if person.external_id in without
        else person.activity * (0.03 + len(person.interests & topics))
        for person in home
    ]
    return chance.choices(home, weights)[0]


def _draft(post: Written, seen: Shown) -> dict[str, Any]:
    draft: dict[str, Any] = {
        "external_id": seen.external_id,
        "community": seen.community,
        "author": seen.author,
        "kind": post.kind.value,
        "title": post.title,
        "text": post.text,
        "link": post.link,
        "topics": post.topics,
        "audience": post.audience.value,
        "created_at": before(seen.age),
    }
    return {name: value for name, value in draft.items() if value}


def _thread(post: Written, seen: Shown, home: list[Person], chance: Rng) -> list[dict[str, Any]]:
    """Return a thread: each remark somewhat later than the one before, all before now."""
    age, wrote, lines = seen.age, {seen.author}, list[dict[str, Any]]()
    for number, remark in enumerate(post.thread, 1):
        age -= max(60, int(min(age - 120, 2 * DAY) * chance.betavariate(1, 4)))
        author = seen.author
        if not remark.by_author:
            author = _one_of(home, seen.topics, chance, without=wrote).external_id
            wrote.add(author)
        line = {
            "external_id": f"{seen.external_id}-{number}",
            "community": seen.community,
            "author": author,
            "post": seen.external_id,
            "text": remark.text,
            "created_at": before(max(age, 60)),
        }
        if remark.by_author and lines:
            line["parent"] = lines[-1]["external_id"]
        lines.append(line)
    return lines


def _follows(
    people: dict[str, list[Person]], shown: list[Shown], chance: Rng
) -> list[dict[str, Any]]:
    """Let members follow authors, rather those who write about what they like."""
    lines: list[dict[str, Any]] = []
    for community, home in people.items():
        written: dict[str, set[str]] = {}
        for post in shown:
            if post.community == community:
                written.setdefault(post.author, set()).update(post.topics)
        authors = sorted(written)
        for person in home:
            weights = [0.15 + len(person.interests & written[one]) for one in authors]
            wanted = set(chance.choices(authors, weights, k=chance.randint(1, 9)))
            person.follows = wanted - {person.external_id}
            lines += [
                {
                    "community": community,
                    "member": person.external_id,
                    "target": target,
                    "created_at": before(chance.randrange(DAY, 38 * DAY)),
                }
                for target in sorted(person.follows)
            ]
    return lines


if __name__ == "__main__":
    main()
