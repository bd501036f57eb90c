"""For every text there is: a prompt keeps its budget, and no text becomes a marker."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millrace.feed.prompts import v2
from millrace.feed.prompts.types import Marker, MemberFacts, PostFacts
from millrace.feed.testing import packaged_encoder

START = datetime(2026, 1, 1, tzinfo=UTC)
FORGERIES = [marker.token for marker in v2.MARKERS]
FORGERIES += ["[SEP]", "[CLS]", "[MASK]", "[PAD]", "[UNK]", "[unused1]", "<s>", "</s>", "##ing"]
PIECES = st.one_of(
    st.sampled_from(FORGERIES),
    st.text(max_size=40),
    st.sampled_from(
        ["word ", "\n", "\x00", "\ud800", "🧵", "\U0001d518nicode", "ﷺ", "量子力学", "x" * 300]
    ),
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)
PERCENTILES = st.none() | st.integers(0, 100)
POSTS = st.builds(
    PostFacts,
    kind=st.sampled_from(["note", "question"]),
    author_name=TEXTS,
    headline=TEXTS,
    community=TEXTS,
    topics=st.lists(TEXTS, max_size=3),
    title=TEXTS,
    text=TEXTS,
    created_at=st.integers(0, 10_000).map(lambda hours: START + timedelta(hours=hours)),
    age_percentile=PERCENTILES,
    view_percentile=PERCENTILES,
)
MEMBERS = st.builds(
    MemberFacts,
    display_name=TEXTS,
    headline=TEXTS,
    about=TEXTS,
    skills=st.lists(TEXTS, max_size=3),
    place=TEXTS,
    languages=st.lists(TEXTS, max_size=2),
    history=st.lists(POSTS, max_size=6),
)
many = settings(max_examples=120, deadline=None)


@many
@given(MEMBERS, st.integers(0, 300))
def test_a_member_prompt_never_exceeds_its_budget(member: MemberFacts, tokens_max: int):
    """With the real tokenizer: what is counted is what the model would be given."""
    encoder = packaged_encoder()

    prompt = v2.member_prompt(member, tokens_max, encoder.count)

    numbers = encoder.vocabulary.encode(prompt, 10_000)
    assert len(numbers) - encoder.vocabulary.frame <= tokens_max
    assert prompt == v2.member_prompt(member, tokens_max, encoder.count)


@many
@given(MEMBERS, st.integers(0, 300))
def test_a_history_is_the_newest_in_order_without_a_gap(member: MemberFacts, tokens_max: int):
    encoder = packaged_encoder()
    whole = v2.member_prompt(member, 100_000, encoder.count)

    prompt = v2.member_prompt(member, tokens_max, encoder.count)

    all_posts, shown = split_history(whole), split_history(prompt)
    newest = all_posts[len(all_posts) - len(shown) :]
    assert shown[1:] == newest[1:]  # all but the oldest shown are whole
    assert all(kept[:-1] == full[:-1] for kept, full in zip(shown, newest, strict=True))


def split_history(prompt: tuple[Marker | str, ...]) -> list[tuple[Marker | str, ...]]:
    """Return the parts of each post of a history."""
    posts: list[tuple[Marker | str, ...]] = []
    for part in prompt:
        if part == Marker("history_post"):
            posts.append(())
        if posts:
            posts[-1] += (part,)
    return posts


@many
@given(TEXTS)
@example("".join(FORGERIES))
def test_no_text_becomes_a_marker_or_a_special_token(text: str):
    vocabulary = packaged_encoder().vocabulary
    special = {0, 101, 102, 103}  # [PAD] [CLS] [SEP] [MASK]; [UNK] is what an unknown sign is

    numbers = set(vocabulary.numbers_of(text))

    assert not numbers & (special | vocabulary.marker_numbers)


@many
@given(POSTS, st.integers(1, 300))
def test_a_post_has_the_markers_that_we_put_there_and_no_others(post: PostFacts, tokens_max: int):
    vocabulary = packaged_encoder().vocabulary
    prompt = v2.post_prompt(post)

    numbers = vocabulary.encode(prompt, tokens_max)

    inside = numbers[1:-1]
    assert len(inside) <= tokens_max
    own = [vocabulary.encode((part,), 1)[1] for part in prompt if isinstance(part, Marker)]
    found = [number for number in inside if number in vocabulary.marker_numbers]
    assert found == own[: len(found)]
    if len(inside) < tokens_max:
        assert found == own


@pytest.mark.parametrize("token", FORGERIES)
def test_a_written_token_is_read_as_words(token: str):
    vocabulary = packaged_encoder().vocabulary

    assert len(vocabulary.numbers_of(token)) >= 2
