"""Batches are the same for the same step, and no negative is one by mistake or from the future."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from examples_folder import COMMUNITIES, STATES, tables, write
from msgspec.structs import replace

from millrace.feed.examples.batch import ABSENT, Batch, Tokens
from millrace.feed.examples.batches import Batches
from millrace.feed.examples.prompted import Prompted
from millrace.feed.examples.reading import Examples, Part
from millrace.feed.examples.standing_posts import StandingPosts
from millrace.feed.prompts import v2
from millrace.feed.recipe import EncoderRecipe
from millrace.feed.testing import packaged_encoder
from millrace.kernel.errors import InvalidError

RECIPE = EncoderRecipe(
    batch=8, hard=2, random=4, seed=3, empty_history_share=0.0, history_in="prompt"
)
EMPTY_HISTORY = {"empty_history_share": 1.0}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return Examples(write(tmp_path_factory.mktemp("examples"), tables()))


def batches(examples: Examples, part: Part | None = None, **changes: object) -> Batches:
    """Return the batches of a recipe that differs in some switches."""
    recipe = replace(RECIPE, **changes)
    return Batches(part or examples.whole(), prompted(examples, **changes), recipe)


def prompted(examples: Examples, **changes: object) -> Prompted:
    encoder = packaged_encoder()
    return Prompted(examples, encoder.vocabulary, replace(RECIPE, **changes), encoder.tokens_max)


def epoch(made: Batches, number: int = 0) -> list[Batch]:
    first = number * made.steps_per_epoch
    return [made.batch(step) for step in range(first, first + made.steps_per_epoch)]


def rows(tokens: Tokens) -> list[tuple[int, ...]]:
    return [tuple(tokens.row(place).tolist()) for place in range(tokens.rows)]


def states_of(examples: Examples, batch: Batch) -> list[set[int]]:
    """Return which states the text of each column is of; most texts are of one."""
    texts = prompted(examples)
    by_text: dict[tuple[int, ...], set[int]] = {}
    for state in range(len(examples.post_of)):
        by_text.setdefault(tuple(texts.post(state).tolist()), set()).add(state)
    return [by_text[row] for row in rows(batch.posts)]


def arrays(batch: Batch) -> list[bytes]:
    return [
        part.tobytes()
        for tokens in (batch.members, batch.posts)
        for part in (tokens.numbers, tokens.starts)
    ] + [
        getattr(batch, name).tobytes()
        for name in ("positive", "hard", "random", "barred", "log_q", "moments")
    ]


def test_a_step_makes_the_same_batch_whatever_was_made_before(examples):
    """A run that was killed goes on exactly: a fresh object at step 25 makes what the old one made."""
    through, resumed = batches(examples), batches(examples)

    made = [arrays(through.batch(step)) for step in range(40)]

    assert made[25] == arrays(resumed.batch(25))
    assert made[3] == arrays(through.batch(3))
    assert made[3] != arrays(batches(examples, seed=4).batch(3))
    assert len({tuple(one) for one in made}) == 40


def test_an_epoch_has_every_pair_once_in_an_order_of_its_own(examples):
    made = batches(examples)
    wanted = Counter(
        moment for moment in range(examples.moments) for done in examples.engaged[moment] if done
    )

    first, second = epoch(made), epoch(made, 1)

    for batch_list in (first, second):
        assert wanted == Counter(m for one in batch_list for m in one.moments.tolist())
        assert {one.pairs for one in batch_list} <= {RECIPE.batch, RECIPE.batch - 1}
    assert made.pairs == wanted.total()
    assert [one.moments.tolist() for one in first] != [one.moments.tolist() for one in second]


def test_the_positive_is_a_post_that_the_member_engaged_with_in_that_moment(examples):
    for batch in epoch(batches(examples)):
        states = states_of(examples, batch)
        for pair, moment in enumerate(batch.moments.tolist()):
            engaged = set(examples.shown[moment][examples.engaged[moment]].tolist())
            assert states[batch.positive[pair]] & engaged
            assert not batch.barred[pair, batch.positive[pair]]


def test_hard_negatives_were_shown_and_never_engaged_with(examples):
    """Those of the moment come first; where it has too few, older ones fill up."""
    found = 0
    for batch in epoch(batches(examples)):
        states = states_of(examples, batch)
        for pair, moment in enumerate(batch.moments.tolist()):
            shown, done = examples.shown[moment], examples.engaged[moment]
            now = set(shown[~done].tolist())
            before = set(examples.past[moment][~examples.past_engaged[moment]].tolist())
            hard = [states[column] for column in batch.hard[pair] if column != ABSENT]
            found += len(hard)
            assert all(one & (now | before) for one in hard)
            engaged = engaged_ever(examples, moment)
            assert not any({state // STATES for state in one} <= engaged for one in hard)
            fit = {state for state in now if state // STATES not in engaged}
            first = [bool(one & now) for one in hard]
            assert first == sorted(first, reverse=True)
            assert sum(first) >= min(len(fit), RECIPE.hard)
            assert not batch.barred[pair, batch.hard[pair][batch.hard[pair] != ABSENT]].any()
    assert found > 100


def engaged_ever(examples: Examples, moment: int) -> set[int]:
    """Return the posts that the member of a moment ever engaged with."""
    member = examples.member_of[examples.member_state[moment]]
    theirs = np.flatnonzero(examples.member_of[examples.member_state] == member).tolist()
    return {
        int(state) // STATES
        for one in theirs
        for state in examples.shown[one][examples.engaged[one]]
    }


def test_whoever_engaged_with_a_post_is_never_kept_from_it(examples):
    """Also when it is there in another state, and also when they engaged in another moment."""
    barred = 0
    for batch in epoch(batches(examples, random=12)):
        states = states_of(examples, batch)
        for pair, moment in enumerate(batch.moments.tolist()):
            engaged = engaged_ever(examples, moment)
            for column, of in enumerate(states):
                if {state // STATES for state in of} <= engaged and column != batch.positive[pair]:
                    assert batch.barred[pair, column]
                    barred += 1
    assert barred > 100


def test_drawn_posts_stood_and_were_shown_to_nobody_they_were_drawn_for(examples):
    drawn = 0
    for batch in epoch(batches(examples, hard=0, random=6)):
        states = states_of(examples, batch)
        drawn += len(batch.random)
        for column in batch.random.tolist():
            strangers = [
                moment
                for moment in batch.moments.tolist()
                if not seen(examples, moment) & {state // STATES for state in states[column]}
            ]
            assert strangers
            at = examples.at[strangers]
            assert any(examples.post_known_at[state] < at.max() for state in states[column])
    assert drawn > 50


def seen(examples: Examples, moment: int) -> set[int]:
    past, shown = examples.past[moment].tolist(), examples.shown[moment].tolist()
    return {state // STATES for state in (*past, *shown)}


def test_a_batch_is_of_one_community_or_bars_what_its_members_never_see(examples):
    community = examples.member_community[examples.member_state]
    for batch in epoch(batches(examples)):
        assert len({int(community[moment]) for moment in batch.moments}) == 1
    mixed = 0
    for batch in epoch(batches(examples, same_community=False)):
        homes = community[batch.moments]
        mixed += len(set(homes.tolist())) > 1
        posts = np.array([min(of) // STATES % COMMUNITIES for of in states_of(examples, batch)])
        foreign = homes[:, None] != posts
        assert batch.barred[foreign].all()
    assert mixed > 5


def test_nobody_is_kept_from_their_own_post_or_drawn_one(tmp_path):
    """Who wrote a post is never shown it, so it says nothing that they did not engage with it."""
    made = tables()
    made["posts"]["author"] = [post % 4 for post in made["posts"]["post"]]
    examples = Examples(write(tmp_path, made))
    barred = 0

    for batch in epoch(batches(examples, random=8)):
        members = examples.member_of[examples.member_state[batch.moments]]
        for column, of in enumerate(states_of(examples, batch)):
            mine = members == min(of) // STATES % 4
            wrong = mine & ~batch.barred[:, column]
            wrong[batch.positive == column] = False
            assert not wrong.any()
            barred += mine.sum()
    assert barred > 50


def test_posts_stand_from_their_first_state_for_a_while(examples):
    standing = StandingPosts(examples)
    minute, first = 60_000_000, int(examples.post_known_at[0])

    def posts(community: int, minutes: int, age: int) -> list[int]:
        return standing.posts(community, first + minutes * minute, age * minute).tolist()

    assert posts(0, 100, 1_000) == [0, 2, 4, 6, 8]  # one each 20 minutes; that of now is not known
    assert posts(0, 101, 1_000) == [0, 2, 4, 6, 8, 10]
    assert posts(1, 101, 40) == [7, 9]
    assert posts(5, 101, 40) == []
    assert [standing.state(4, first + at * minute) for at in (41, 70, 71)] == [8, 8, 9]


def test_drawn_posts_are_in_the_state_of_the_moment(tmp_path):
    """Also where a later one is known: its numbers say what was to come."""
    made = tables()
    known_at = made["posts"]["known_at"]
    made["posts"]["known_at"] = [
        at + timedelta(days=60) * (state % STATES) for state, at in enumerate(known_at)
    ]
    examples = Examples(write(tmp_path, made))

    for batch in epoch(batches(examples, hard=0, random=6)):
        states = states_of(examples, batch)
        assert all(min(states[column]) % STATES == 0 for column in batch.random.tolist())


def test_texts_are_those_that_serving_reads(examples):
    encoder = packaged_encoder()
    batch = batches(examples, post_tokens_max=24).batch(0)
    moment = int(batch.moments[0])

    history = [examples.post_facts(state) for state in examples.positives[moment].tolist()]
    member = examples.member_facts(int(examples.member_state[moment]), history)
    prompt = v2.member_prompt(member, encoder.tokens_max, encoder.count)
    assert encoder.vocabulary.encode(prompt, encoder.tokens_max) == batch.members.row(0).tolist()
    shown = examples.shown[moment][examples.engaged[moment]].tolist()
    posts = [
        tuple(encoder.vocabulary.encode(v2.post_prompt(examples.post_facts(state)), 22))
        for state in shown
    ]
    assert rows(batch.posts)[batch.positive[0]] in posts
    assert batch.posts.lengths.max() == 24


def test_without_a_history_the_profile_alone_is_read(examples):
    encoder = packaged_encoder()
    alone, share = batches(examples, **EMPTY_HISTORY), batches(examples, empty_history_share=0.3)
    marker = encoder.vocabulary.encode((v2.MARKERS[v2.FIELDS.index("history")],), 1)[1]

    for batch in epoch(alone):
        for row, moment in zip(rows(batch.members), batch.moments.tolist(), strict=True):
            member = examples.member_facts(int(examples.member_state[moment]), [])
            prompt = v2.member_prompt(member, encoder.tokens_max, encoder.count)
            assert tuple(encoder.vocabulary.encode(prompt, encoder.tokens_max)) == row
    without = [marker not in row for step in range(60) for row in rows(share.batch(step).members)]
    with_all = [marker not in row for one in epoch(batches(examples)) for row in rows(one.members)]
    assert 0.15 < np.mean(without) - np.mean(with_all) * 0.7 < 0.45


def test_a_history_shows_engagements_or_all_impressions(examples):
    positives, everything = batches(examples).batch(5), batches(examples, history="all").batch(5)

    assert (positives.moments == everything.moments).all()
    assert rows(positives.posts) == rows(everything.posts)
    assert rows(positives.members) != rows(everything.members)
    assert everything.members.lengths.sum() > positives.members.lengths.sum()


def test_numbers_are_percentiles_or_raw_or_left_out(examples):
    decode = packaged_encoder().vocabulary
    numbers = examples.post_numbers(7)
    written = {
        kind: prompted(examples, numbers=kind, post_tokens_max=200).post(7).tolist()
        for kind in ("percentiles", "raw", "none")
    }
    shares = v2.post_prompt(examples.post_facts(7))
    raw = tuple(
        str(numbers[shares[place - 1].name]) if place and is_number(shares, place) else part
        for place, part in enumerate(shares)
    )

    assert decode.encode(shares, 198) == written["percentiles"]
    assert decode.encode(raw, 198) == written["raw"]
    assert decode.encode(v2.post_prompt(examples.said(7)), 198) == written["none"]


def is_number(prompt, place: int) -> bool:
    return getattr(prompt[place - 1], "name", "") in v2.PERCENTILES


def test_log_q_is_how_often_a_post_is_a_column(examples):
    made = batches(examples, hard=0, random=0)
    community = examples.member_community[examples.member_state]
    pairs = [
        (int(community[moment]), int(state) // STATES)
        for moment in range(examples.moments)
        for state in examples.shown[moment][examples.engaged[moment]]
    ]
    counts, totals = Counter(pairs), Counter(home for home, _ in pairs)

    for batch in epoch(made):
        home = int(community[batch.moments[0]])
        for of, log_q in zip(states_of(examples, batch), batch.log_q, strict=True):
            posts = {state // STATES for state in of}
            wanted = {counts[home, post] / totals[home] for post in posts}
            assert any(np.isclose(np.exp(log_q), share) for share in wanted)


def test_more_kinds_of_negatives_spread_log_q(examples):
    plain, spread = batches(examples, hard=0, random=0), batches(examples, hard=0, random=800)

    assert spread.batch(0).log_q.std() < plain.batch(0).log_q.std()
    assert np.isfinite(batches(examples, hard=2).batch(0).log_q).all()


def test_nothing_is_learned_from_behind_a_split(examples):
    """Neither pairs nor whom a post is kept from: only the moments before count."""
    at = examples.whole().time_at(0.6)
    before, _ = examples.split(at)
    cut = tables()
    kept = [row for row, one in enumerate(cut["moments"]["labelled_until"]) if one <= at]
    cut["moments"] = {
        name: [column[row] for row in kept] for name, column in cut["moments"].items()
    }
    alone = Examples(write(Path(examples.folder) / "cut", cut))

    split, whole = batches(examples, before), batches(alone)

    assert split.steps_per_epoch == whole.steps_per_epoch > 3
    assert [arrays(one) for one in epoch(split)] == [arrays(one) for one in epoch(whole)]


def test_a_part_in_which_nobody_engages_is_refused(examples):
    before, _ = examples.split(examples.whole().time_at(0.0) + timedelta(minutes=1))

    with pytest.raises(InvalidError, match="no engagement in this part"):
        batches(examples, before)


def test_what_was_made_is_forgotten_in_bounds(examples, monkeypatch):
    """With room for hardly anything the batches are the same, only later."""
    wanted = arrays(batches(examples).batch(7))
    monkeypatch.setattr("millrace.feed.examples.prompted.TOKENS_KEPT_MAX", 60)

    made = batches(examples)

    assert wanted == arrays(made.batch(7))
    assert wanted == arrays(made.batch(7))
