"""Filters and features over columns say what their plain definitions say, post by post."""

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.community.percentiles import Scales, engagement_rate
from millrace.community.types import (
    Audience,
    Key,
    Member,
    MemberCounts,
    Post,
    PostCounts,
    PostKind,
    Relations,
    Role,
    Viewer,
)
from millrace.community.visibility import sees_post
from millrace.feed import filters, ranking
from millrace.feed.catalogue import AuthorFacts, Catalogue, PostFacts
from millrace.feed.features import COLUMN, FEATURES, Example, Subject, matrix, words
from millrace.feed.history import PostList
from millrace.feed.reasons import AFFINITY, NEAR, POPULAR, RECENT, Tastes, Told, sentence
from millrace.feed.run import EXPLORATION, SOURCES, Known, MemberState, Request, Run, candidates
from millrace.feed.standing import Standings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ME = Key(1, 1)
AUTHORS = [ME, Key(1, 2), Key(1, 3), Key(2, 4), Key(3, 5)]
TOPICS = ["boats", "soup", "quantum-gates", "q#", "seeds"]
COUNTS = st.integers(0, 200)
authors = st.sampled_from(AUTHORS)
few = st.frozensets(authors.filter(lambda key: key != ME), max_size=2)


class Line:
    """One drawn post."""

    def __init__(self, number, author, drawn) -> None:
        self.key, self.author = Key(author.community_id, number), author
        self.kind, self.topics, self.language, self.audience, hours, self.hidden, numbers = drawn
        self.created_at = NOON - timedelta(hours=hours)
        self.counts = PostCounts(**dict(zip(PostCounts.__struct_fields__, numbers, strict=True)))

    def facts(self) -> PostFacts:
        return PostFacts(
            key=self.key, author=self.author, kind=self.kind, topics=self.topics,
            language=self.language, audience=self.audience, created_at=self.created_at,
            hidden=self.hidden,
        )  # fmt: skip

    def post(self) -> Post:
        return Post(
            community_id=self.key.community_id, post_id=self.key.id, external_id="",
            author_id=self.author.id, kind=self.kind, title="", text="", link="",
            topics=self.topics, language=self.language, audience=self.audience,
            created_at=self.created_at, edited_at=None, removed_at=None,
            hidden_at=NOON if self.hidden else None, system_version=1,
        )  # fmt: skip


drawn_posts = st.lists(
    st.tuples(
        authors,
        st.tuples(
            st.sampled_from(PostKind),
            st.lists(st.sampled_from(TOPICS), max_size=3, unique=True),
            st.sampled_from(["en", "de", ""]),
            st.sampled_from(Audience),
            st.integers(0, 100),
            st.booleans(),
            st.tuples(*[COUNTS] * 8),
        ),
    ),
    min_size=1,
    max_size=12,
).map(lambda drawn: [Line(number, author, rest) for number, (author, rest) in enumerate(drawn, 1)])


def world(lines: list[Line], out: frozenset[Key], followers: dict[Key, int]) -> Catalogue:
    catalogue = Catalogue(4)
    for author in AUTHORS:
        catalogue.put_author(AuthorFacts(key=author, name="", stands=author not in out))
        catalogue.put_author_counts(author, [followers.get(author, 0), 1, 2, 3])
    for line in lines:
        catalogue.put(line.facts(), None)
        catalogue.put_counts(
            line.key, [getattr(line.counts, n) for n in line.counts.__struct_fields__]
        )
    return catalogue


def member(relations: Relations, languages=frozenset(), **changes) -> MemberState:
    subject = Subject(
        community_id=1, languages=languages, topics=changes.pop("topics", {}),
        words=words("quantum gardener, q"), follows=relations.follows,
        affinity=changes.pop("affinity", {}),
    )  # fmt: skip
    fields = {
        "key": ME, "display_name": "", "community_name": "", "languages": languages,
        "vector": None, "embedding_position": "", "relations": relations, "seen": PostList(),
        "served": frozenset(), "hidden": frozenset(), "liked": PostList(), "subject": subject,
    }  # fmt: skip
    return MemberState(**(fields | changes))


def proposed(catalogue: Catalogue, lines: list[Line]):
    slots = np.array([catalogue.slot(line.key) for line in lines])
    nothing = np.zeros((len(lines), 3))
    return candidates(slots, catalogue.index, nothing.astype(np.int32), nothing)


relations = st.builds(
    Relations, follows=few, blocks=few, mutes=few, nearby=st.frozensets(st.integers(2, 3))
)


@settings(max_examples=150, deadline=None)
@given(drawn_posts, relations, few, st.sampled_from([frozenset(), frozenset({"en"})]),
       st.frozensets(st.integers(1, 12), max_size=3), st.integers(0, 100))  # fmt: skip
def test_filters_are_the_rule_and_the_wishes_of_the_member(lines, bonds, out, read, hid, age):
    """What passes is what the one rule lets see, less what the member does not want."""
    catalogue = world(lines, out, {})
    hidden = frozenset(line.key for line in lines if line.key.id in hid)
    me = member(bonds, read, hidden=hidden)
    run = Run(request=Request(member=ME, surface="", token="", now=NOON), state=me)
    run.candidates = proposed(catalogue, lines)
    run.known = Known(hidden=catalogue.index.slots(hidden))
    oldest = NOON - timedelta(hours=age)
    posts = filters.judging(run, catalogue, oldest)

    gone = filters.judged(posts)

    removed = np.zeros(len(lines), dtype=bool)
    for name, mask in gone:
        assert not (removed & mask).any(), "a post is taken out once"
        removed |= mask
        for place in np.flatnonzero(mask):
            assert filters.reason(name, posts, int(place))
    viewer = Viewer(Role.MEMBER, ME, "member")
    blocks = {(ME, other) for other in bonds.blocks}
    near = {(1, other) for other in bonds.nearby}
    for place, line in enumerate(lines):
        author = Member(
            community_id=line.author.community_id, member_id=line.author.id, external_id="",
            handle="", display_name="", headline="", about="", skills=[], place="", languages=[],
            role=Role.MEMBER, joined_at=NOON, removed_at=NOON if line.author in out else None,
            system_version=1,
        )  # fmt: skip
        wanted = (
            line.author != ME
            and line.author not in bonds.mutes
            and line.key not in hidden
            and line.created_at >= oldest
            and (not read or line.language in {"", *read})
        )
        passes = wanted and sees_post(viewer, line.post(), author, blocks, near)
        assert bool(removed[place]) is not passes


@settings(max_examples=100, deadline=None)
@given(
    drawn_posts, relations,
    st.dictionaries(st.sampled_from(TOPICS), st.floats(0, 1), max_size=3),
    st.dictionaries(authors, st.integers(1, 40).map(float), max_size=3),
    st.dictionaries(authors, st.integers(0, 300), max_size=5),
    st.lists(st.integers(0, 150), min_size=99, max_size=99).map(sorted),
    st.sampled_from([frozenset(), frozenset({"en"})]),
)  # fmt: skip
def test_features_of_columns_are_those_of_examples(
    lines, bonds, topics, affinity, followers, cuts, read
):
    """Serving reads columns and fitting reads examples; both give the same numbers."""
    catalogue = world(lines, frozenset(), followers)
    me = member(bonds, read, topics=topics, affinity=affinity)
    near = np.linspace(-1, 1, len(lines))
    rates = [cut / 200 for cut in cuts]
    scales = {1: Scales({"views": cuts, "likes": cuts, "author_followers": cuts}),
              2: Scales({"engagement_rate": rates, "comments": cuts}), 3: Scales({})}  # fmt: skip

    standings = Standings()
    standings.put({community: Scales({"views": [1, 2]}) for community in scales})  # older ones
    standings.put(scales)

    posts = proposed(catalogue, lines)
    found = ranking.features_of(
        catalogue, me.subject, posts, np.stack([near, 0 * near, 0 * near], axis=1), standings,
        ranking.ages_of(catalogue, posts, NOON),
    )  # fmt: skip

    examples = [
        Example(
            author=line.author, community_id=line.key.community_id, kind=line.kind,
            topics=line.topics, language=line.language, created_at=line.created_at,
            counts=line.counts, engagement_rate=engagement_rate(line.counts),
            author_counts=MemberCounts(followers=followers.get(line.author, 0)),
            similarity=float(near[place]),
        )
        for place, line in enumerate(lines)
    ]  # fmt: skip
    plain = matrix(me.subject, examples, {c: one.of for c, one in scales.items()}, NOON)
    np.testing.assert_allclose(found, plain, rtol=1e-12, atol=1e-12)


LEVELS = {
    "follows_author": 0.5, "affinity": AFFINITY, "similarity": NEAR,
    "engagement_rate_percentile": POPULAR, "recency": RECENT,
}  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    drawn_posts,
    st.dictionaries(st.sampled_from(TOPICS), st.floats(0, 1), max_size=5),
    st.lists(st.tuples(*[st.booleans()] * 6), min_size=12, max_size=12),
)
def test_sentences_of_many_posts_are_those_of_each(lines, topics, flags):
    """Posts that share their reasons share a sentence, and nobody gets another's."""
    catalogue = world(lines, frozenset(), {})
    for author in AUTHORS:
        catalogue.put_author(AuthorFacts(key=author, name=f"Gus {author.id}.", stands=True))
    catalogue.communities |= {1: "Village", 2: "Quay", 3: ""}
    nobody = frozenset[Key]()
    bonds = Relations(follows=nobody, blocks=nobody, mutes=nobody, nearby=frozenset())
    subject = member(bonds, topics=topics).subject
    posts = proposed(catalogue, lines)
    posts.row = np.arange(len(lines), dtype=np.int32)[::-1]
    posts.ranks = np.full((len(lines), len(SOURCES)), -1, dtype=np.int32)
    rows = np.zeros((len(lines), len(FEATURES)))
    for place, (*strong, new) in enumerate(flags[: len(lines)]):
        posts.ranks[place, SOURCES.index(EXPLORATION)] = 0 if new else -1
        for (name, level), holds in zip(LEVELS.items(), strong, strict=True):
            rows[posts.row[place], COLUMN[name]] = level if holds else level - 0.01

    found = ranking.sentences(catalogue, subject, posts, rows)

    for line, text, (follows, enjoys, near, popular, recent, new) in zip(
        lines, found, flags, strict=False
    ):
        tastes = Tastes(subject)
        assert text == sentence(
            Told(
                author=f"Gus {line.author.id}.", kind=line.kind,
                community=catalogue.communities[line.key.community_id],
                liked=tastes.liked(line.topics), named=tastes.named(line.topics),
                follows=follows, enjoys=enjoys, new_voice=new, near=near, popular=popular,
                recent=recent,
            )
        )  # fmt: skip
