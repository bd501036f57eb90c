"""Goal: the town's texts read like many people, are valid, and hide words as overlap says."""

import re
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.community import validator
from millrace.community.types import (
    ABOUT_MAX,
    COMMENT_MAX,
    HANDLE_MAX,
    HEADLINE_MAX,
    NAME_MAX,
    SKILLS_MAX,
    TEXT_MAX,
    TITLE_MAX,
    TOPICS_MAX,
    WORD_MAX,
    PostKind,
)
from millrace.kernel.rng import rng as seeded
from millrace.world.simulator.grammar import Choice, Template, compiled, expand, slots
from millrace.world.simulator.scene import frames, shared_frames
from millrace.world.simulator.topic import topics
from millrace.world.simulator.writing import PostText, ProfileText, Writer

POSTS = 5_000
AUTHORS = 400
KINDS = list(PostKind)
SHARES = [0.5, 0.2, 0.1, 0.1, 0.05, 0.05]
WORD = re.compile(r"[a-z']+|\d+")
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\S+",
        """a about after again all also am an and any are as at away back be because been before being
    below between both but by can could did do does done down each either else enough ever every
    everybody everyone few first for from further get go had has have he hence her here him his how
    however i if in instead into is it its just keep last least less made many may me meanwhile
    might mine more most much must my myself near neither never next nine no nobody none nor not
    nothing now of off often on once one only onto or other others our out over own part per
    perhaps put quite rather really same see seem seems several she should since six so some
    somebody someone something sometimes still such take ten than that the their them then there
    these they this those though three through thus to together too toward twelve two under until
    up upon us very was we well were what whatever when where whether which while who whom whose
    why will with within without would yes yet you your yours eight five four eleven seven
    i'm i've i'll i'd don't doesn't didn't isn't it's that's can't couldn't won't haven't""",
    )
)
SENTENCE = re.compile(r"(?<=[.!?])\s+")


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def content(text: str) -> set[str]:
    """Words that carry meaning, without their usual endings."""
    kept = (w for w in words(text) if w not in FUNCTION_WORDS and len(w) > 2 and w.isalpha())
    return {re.sub(r"(?<=\w{3})(ings?|ers?|ies|ed|es|s|y|e)$", "", word) for word in kept}


def whole(post: PostText) -> str:
    return f"{post.title}. {post.text}"


def told(profile: ProfileText) -> str:
    return " ".join((profile.headline, profile.about, *profile.skills))


@pytest.fixture(scope="module")
def town() -> list[tuple[int, int, PostText]]:
    """5,000 posts: author, topic, text."""
    rng, writer = seeded(71), Writer()
    voices = [writer.voice(rng, writer.name(rng)[0].split()[0]) for _ in range(AUTHORS)]
    found: list[tuple[int, int, PostText]] = []
    for _ in range(POSTS):
        author, topic = rng.randrange(AUTHORS), rng.randrange(len(topics()))
        second = rng.choice(topics()[topic].near) if rng.random() < 0.2 else None
        kind = rng.choices(KINDS, SHARES)[0]
        found.append((author, topic, writer.post(rng, topic, second, kind, 0.0, voices[author])))
    return found


def test_topics_are_many_and_lead_to_each_other():
    known = topics()

    assert len(known) >= 48
    assert len({topic.field for topic in known}) >= 10
    for topic in known:
        assert topic.index == known.index(topic)
        assert topic.near
        assert topic.index not in topic.near


def test_every_slot_can_be_filled():
    """A phrase with a misspelt slot would fail only on the day that it is drawn."""
    everywhere = set(frames()) | {"me", "ware"}
    for topic in topics():
        parts = {*topic.profile, *topic.post, *topic.shared}
        for register in (topic.profile, topic.post, topic.shared, shared_frames(), frames()):
            for name, phrases in register.items():
                for phrase in phrases:
                    asked = {slot.removeprefix("other_") for slot in slots(phrase)}
                    assert asked <= everywhere | parts, f"{topic.name} {name}: {asked}"


def test_no_frame_is_recognisable(town):
    """Content words masked, no run of five words with three function words is in 4 % of posts."""
    seen: Counter[tuple[str, ...]] = Counter()
    literal: Counter[tuple[str, ...]] = Counter()
    for _, _, post in town:
        spoken = words(whole(post))
        masked = [word if word in FUNCTION_WORDS else "_" for word in spoken]
        runs = {tuple(masked[i : i + 5]) for i in range(len(masked) - 4)}
        seen.update(run for run in runs if run.count("_") <= 2)
        literal.update({tuple(spoken[i : i + 5]) for i in range(len(spoken) - 4)})

    run, times = seen.most_common(1)[0]
    assert times < 0.04 * POSTS, f"{' '.join(run)} is in {times} of {POSTS} posts"
    run, times = literal.most_common(1)[0]
    assert times < 0.02 * POSTS, f"{' '.join(run)} is in {times} of {POSTS} posts"


def test_people_seldom_say_the_same_sentence(town):
    authors: defaultdict[str, set[int]] = defaultdict(set)
    said: list[str] = []
    for author, _, post in town:
        for sentence in SENTENCE.split(post.text.lower()):
            if sentence.count(" ") >= 3:
                authors[sentence].add(author)
                said.append(sentence)

    twice = sum(len(authors[sentence]) > 1 for sentence in said)
    assert twice < 0.05 * len(said)


def test_function_words_do_not_tell_the_topic(town):
    """What a classifier learns of a topic it learns from its content words."""
    from sklearn.feature_extraction.text import CountVectorizer  # late: it takes a second
    from sklearn.naive_bayes import MultinomialNB

    texts, labels = [whole(post) for _, _, post in town], [topic for _, topic, _ in town]
    half = POSTS // 2
    right: list[float] = []
    for vocabulary in (sorted(FUNCTION_WORDS), None):
        stop = None if vocabulary else sorted(FUNCTION_WORDS)
        counted = CountVectorizer(
            vocabulary=vocabulary, stop_words=stop, token_pattern=r"[a-z']+"
        ).fit_transform(texts)
        model = MultinomialNB(alpha=0.1).fit(counted[:half], labels[:half])
        right.append(model.score(counted[half:], labels[half:]))

    by_function, by_content = right
    assert by_function < 0.2
    assert by_content > 4 * by_function


def test_lengths_have_a_long_tail(town):
    lengths = sorted(len(post.text.split()) for _, _, post in town)

    assert lengths[0] >= 6
    assert 25 <= lengths[POSTS // 2] <= 60
    assert lengths[POSTS * 98 // 100] >= 80
    assert lengths[-1] <= 195


def test_a_slug_is_no_word_of_its_topic_without_overlap():
    """Tags are data, and must not tell a search by words what the text leaves out."""

    def literal(template: Template) -> str:
        texts = [part for part in template if isinstance(part, str)]
        for part in template:
            if isinstance(part, Choice):
                texts.extend(literal(option) for option in part.options)
        return " ".join(texts).lower()

    for topic in topics():
        slug = re.compile(rf"\b{topic.name.replace('-', ' ')}\b")
        for phrase in [*topic.profile.values(), *topic.post.values()]:
            for template in phrase:
                assert not slug.search(literal(template)), f"{topic.name}: {literal(template)}"


def test_overlap_is_how_much_profiles_and_posts_share():
    """Nothing to speak of at 0; more with each step."""
    same: list[float] = []
    for overlap in (0.0, 0.3, 1.0):
        rng, writer = seeded(5), Writer(noise=0.0)
        of_topic: list[float] = []
        of_other: list[float] = []
        texts = []
        for topic in range(len(topics())):
            profiles = [content(told(writer.profile(rng, [(topic, 1.0)], overlap))) for _ in "abc"]
            voice = writer.voice(rng)
            posts = [
                content(whole(writer.post(rng, topic, None, PostKind.NOTE, overlap, voice)))
                for _ in "abcdef"
            ]
            texts.append((profiles, posts))
        for topic, (profiles, _) in enumerate(texts):
            for shift, into in ((0, of_topic), (31, of_other)):
                posts = texts[(topic + shift) % len(texts)][1]
                into += [len(a & b) / max(1, len(b)) for a in profiles for b in posts]
        same.append(sum(of_topic) / len(of_topic))
        if overlap == 0.0:
            assert same[0] < sum(of_other) / len(of_other) + 0.01

    assert same == sorted(same)
    assert same[1] > 2 * same[0]
    assert same[2] > 2 * same[1]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    overlap=st.floats(0, 1),
    kind=st.sampled_from(KINDS),
    noise=st.floats(0, 1),
)
def test_every_text_is_valid_and_replays(seed, overlap, kind, noise):
    """What the writer writes is taken by the community as it is, and is the same for its seed."""
    made: list[tuple[object, ...]] = []
    for _ in range(2):
        rng, writer = seeded(seed), Writer(noise=noise)
        shown, base = writer.name(rng)
        topic = rng.randrange(len(topics()))
        second = rng.choice([None, *topics()[topic].near])
        voice = writer.voice(rng, shown.split()[0])
        profile = writer.profile(rng, [(topic, 0.7), (second or topic, 0.3)], overlap)
        post = writer.post(rng, topic, second, kind, overlap, voice)
        comment = writer.comment(rng, topic, overlap, voice)
        community = writer.community(rng, seed % 500)
        made.append((shown, base, profile, post, comment, community))

    assert made[0] == made[1]
    assert validator.name("display_name", shown, NAME_MAX) == shown
    assert validator.handle("handle", base, HANDLE_MAX) == base
    assert validator.line("headline", profile.headline, HEADLINE_MAX) == profile.headline
    assert validator.prose("about", profile.about, ABOUT_MAX) == profile.about
    assert validator.words("skills", profile.skills, SKILLS_MAX, WORD_MAX) == profile.skills
    assert validator.line("title", post.title, TITLE_MAX) == post.title
    assert validator.body("text", post.text, TEXT_MAX) == post.text
    assert validator.words("topics", post.tags, TOPICS_MAX, WORD_MAX) == post.tags
    assert validator.body("text", comment, COMMENT_MAX) == comment
    assert bool(post.link) == (kind is PostKind.LINK)
    if post.link:
        assert validator.link("link", post.link) == post.link
    for text in (profile.about, post.title, post.text, comment, *community):
        assert not re.search(r"[{}|]|  |\ba (?!one\b)[aeio]\w| [,.;?]", text), text
    assert all(community)


def test_communities_have_names_of_their_own():
    rng, writer = seeded(3), Writer()
    names = [writer.community(rng, index)[0] for index in range(60)]

    assert len(set(names)) > 57


def test_templates_hold_choices_slots_and_numbers():
    template = compiled("{Thing} (at|after {2-2}|) [{thing}]")
    made = {expand(template, seeded(seed), lambda _: "tea") for seed in range(60)}

    assert made == {"Tea at (tea)", "Tea after two (tea)", "Tea after 2 (tea)", "Tea  (tea)"}
    assert slots(template) == {"thing"}


@pytest.mark.parametrize("broken", ["an (open choice", "a {slot", "a ) too many|"])
def test_a_broken_template_is_refused(broken):
    with pytest.raises((ValueError, AssertionError)):
        assert compiled(broken) != compiled(broken)
