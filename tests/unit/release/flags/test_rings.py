"""Goal: rings are the right size, differ by track, and say why somebody is in one."""

from datetime import UTC, datetime

import pytest

from millrace.community.types import Key
from millrace.kernel.errors import InvalidError
from millrace.release.flags.rings import RingBook, check_entry, check_rule
from millrace.release.flags.types import Choice, Ring, RingEntry, RingRule

ANN, BEN = Key(7, 1), Key(7, 2)
DAY = datetime(2026, 11, 20, tzinfo=UTC)


def entry(ring: Ring, choice: Choice = Choice.LISTED, member: Key = ANN, day: datetime = DAY):
    return RingEntry(
        track="ios", ring=ring, member=member, choice=choice, actor="operator ops", at=day
    )


def test_one_percent_is_one_percent_and_another_one_on_each_track():
    """Nobody wrote a rule: one in a hundred, by lot, and by another lot on each track."""
    book = RingBook([], [])
    everybody = [(f"7-{n}", {}) for n in range(100_000)]

    ios = set(book.members("ios", Ring.ONE_PERCENT, everybody))
    android = set(book.members("android", Ring.ONE_PERCENT, everybody))

    assert 850 <= len(ios) <= 1150, "five standard errors around 1000"
    assert 850 <= len(android) <= 1150
    assert len(ios & android) <= 35, "ten are in both by chance"
    assert not set(book.members("ios", Ring.BETA, everybody))
    assert len(list(book.members("ios", Ring.EVERYONE, everybody))) == 100_000


def test_an_own_rule_takes_the_place_of_one_percent():
    """Also one that closes the ring."""
    book = RingBook([], [RingRule(track="ios", ring=Ring.ONE_PERCENT, percentage=0.0)])

    assert not list(book.members("ios", Ring.ONE_PERCENT, [(f"7-{n}", {}) for n in range(2000)]))


def test_a_list_is_of_one_track():
    """A tester of the iOS app is nobody special on Android."""
    book = RingBook([entry(Ring.ALPHA)], [])

    assert book.ring("ios", ANN, {}) is Ring.ALPHA
    assert book.ring("android", ANN, {}) is Ring.EVERYONE
    assert book.ring("ios", BEN, {}) is Ring.EVERYONE


@pytest.mark.parametrize(
    ("entries", "country", "sentence"),
    [
        (
            [],
            "FR",
            "7-1 is in ring everyone of ios: no list, rule or share puts them further inside.",
        ),
        (
            [entry(Ring.EMPLOYEES)],
            "FR",
            "7-1 is in ring employees of ios, and so in alpha, beta, one_percent, everyone: "
            "listed by operator ops on 2026-11-20 00:00 UTC.",
        ),
        (
            [entry(Ring.BETA, Choice.OPTED_IN)],
            "FR",
            "7-1 is in ring beta of ios, and so in one_percent, everyone: "
            "opted in on 2026-11-20 00:00 UTC.",
        ),
        (
            [],
            "DE",
            "7-1 is in ring alpha of ios, and so in beta, one_percent, everyone: country is DE.",
        ),
        (
            [entry(Ring.BETA, Choice.OPTED_OUT)],
            "DE",
            "7-1 is in ring everyone of ios: no list, rule or share puts them further inside.",
        ),
    ],
)
def test_the_sentence_says_what_decided(entries: list[RingEntry], country: str, sentence: str):
    """A person can check it."""
    rules = [RingRule(track="ios", ring=Ring.ALPHA, attribute="country", values=("DE",))]

    assert RingBook(entries, rules).explain("ios", ANN, {"country": country}).sentence == sentence


def test_the_steps_say_what_a_wish_shut():
    """Who opted out learns what would have held."""
    rules = [RingRule(track="ios", ring=Ring.ALPHA, attribute="country", values=("DE",))]
    book = RingBook([entry(Ring.BETA, Choice.OPTED_OUT)], rules)

    steps = book.explain("ios", ANN, {"country": "DE"}).steps

    assert [(step.ring, step.because) for step in steps[1:3]] == [
        (Ring.ALPHA, "country is DE, but opted out"),
        (Ring.BETA, "opted out on 2026-11-20 00:00 UTC"),
    ]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (RingRule(track="ios", ring=Ring.EVERYONE, percentage=5), "has no rule"),
        (RingRule(track="ios", ring=Ring.BETA, attribute="plan"), "both, or leave both out"),
        (RingRule(track="ios", ring=Ring.BETA, values=("gold",)), "both, or leave both out"),
        (RingRule(track="ios", ring=Ring.BETA, percentage=101), "from 0 to 100"),
    ],
)
def test_a_rule_without_sense_is_refused(rule: RingRule, words: str):
    """The editor says what is wrong."""
    with pytest.raises(InvalidError) as caught:
        check_rule(rule)

    assert words in f"{caught.value.message} {caught.value.next_step}"


@pytest.mark.parametrize(
    "wrong", [entry(Ring.EMPLOYEES, Choice.OPTED_IN), entry(Ring.EVERYONE, Choice.LISTED)]
)
def test_members_wish_only_for_alpha_and_beta(wrong: RingEntry):
    """And everyone is in the ring of everyone already."""
    with pytest.raises(InvalidError):
        check_entry(wrong)


def test_of_two_wishes_at_one_moment_to_be_left_alone_counts():
    """Nobody is drawn in by what they said in the same breath."""
    wishes = [entry(Ring.ALPHA, Choice.OPTED_IN), entry(Ring.BETA, Choice.OPTED_OUT)]
    rules = [RingRule(track="ios", ring=Ring.BETA, attribute="country", values=("DE",))]

    assert RingBook(wishes, rules).ring("ios", ANN, {"country": "DE"}) is Ring.EVERYONE
