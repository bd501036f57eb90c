"""Cuts moments out of what happened, in one pass in the order of time. Pure.

Whatever happened is told to the `Cutter` in global order of time, moments before anything else of the
same microsecond; so what a moment says can only come from before it, and to cut a log that ends
earlier gives the beginning of the same examples. What was logged when a feed was served is taken as it
was logged (the log of prompts, the record); what an import brought is replayed (replayed.py).
"""

from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from millrace.community.types import POSITIVE_ACTIONS, Key
from millrace.feed.examples.pasts import Past
from millrace.feed.examples.replayed import Tallies
from millrace.feed.examples.rows import BirthRow, DeedRow, LineRow, Logged, MomentRow, ProfileRow
from millrace.feed.examples.types import (
    Counts,
    ExportPlan,
    Instant,
    MemberState,
    Moment,
    PostState,
    Wording,
)
from millrace.feed.examples.writing import Tables
from millrace.feed.prompt_lines import MemberSaid, PostSaid, member_of, post_of

ALWAYS: Instant = 0  # a profile of which only the first known is known counts as true from here
POSITION_MAX, NUMBER_MAX = (1 << 15) - 1, (1 << 31) - 1  # of what the tables hold
LINES_KEPT = 3  # of one member and model: a feed may be served with the vector before the newest
POSITIVE = frozenset(kind.value for kind in POSITIVE_ACTIONS)
SHOWN, FOLLOW = "shown", "follow"


class MemberLine(Struct, frozen=True):
    """A member's prompt: where the log stood, the profile, and the history, oldest first."""

    position: int
    state: int
    positives: "array[int]"
    positives_at: "array[int]"


class Before(Struct, frozen=True):
    """What is known of the member of a moment."""

    state: int
    positives: list[int]
    positives_at: list[Instant]


class Shown(Struct):
    """The posts of one moment that there is something to learn of, column by column."""

    states: list[int]
    engaged: list[bool]
    positions: list[int]
    features: list[float]


class Cutter:
    """Takes what happened, in the order of time, and writes examples."""

    def __init__(self, plan: ExportPlan, tables: Tables) -> None:
        self._plan = plan
        self._tables = tables
        self._tallies = Tallies()
        self._counted: Counter[str] = Counter()
        self._members: dict[Key, int] = {}
        self._pasts: defaultdict[int, Past] = defaultdict(Past)
        self._posts: dict[Key, int] = {}
        self._keys: list[Key] = []  # of posts
        self._authors: list[int] = []
        self._wordings: list[tuple[int, int]] = []  # of posts: hash of the newest wording, its row
        self._said: defaultdict[str, dict[int, int]] = defaultdict(
            dict
        )  # by model: states of posts
        self._newest: dict[int, int] = {}  # of whichever model
        self._post_of = array("i")  # of states of posts
        self._known_at = array("q")
        self._profiles: dict[int, tuple[bytes, int]] = {}  # of members: the newest profile, its row
        self._first: dict[int, int] = {}  # of members: the row of the first known profile
        self._member_known_at = array("q")
        self._lines: dict[tuple[int, str], deque[MemberLine]] = {}

    # ------------------------------------------------- what happens

    def birth(self, row: BirthRow) -> None:
        """Hear of a new post; what was first known of it counts as said from the beginning."""
        author = self._number(Key(row.community_id, row.author_id))
        post = self._tallies.born(row.at, row.community_id, author)
        self._posts[row.key] = post
        self._keys.append(row.key)
        self._authors.append(author)
        self._wordings.append((0, -1))
        said = _said_first(row)
        self._word(post, said)
        self._replay(post, row.at, row.at)

    def line(self, row: LineRow) -> None:
        """Hear that a vector was stored, and what its prompt said."""
        if row.thing_kind == "member":
            self._member_line(row)
            return
        post = self._posts.get(row.key)
        if post is None:
            return
        said = post_of(row.facts)
        self._word(post, said)
        state = self._add_state(post, row.made_at, said.percentiles, said.numbers)
        self._said[row.model_version][post] = self._newest[post] = state

    def deed(self, row: DeedRow) -> None:
        """Hear what a member was shown or did."""
        member = self._number(Key(row.community_id, row.member_id))
        other = Key(row.other_community_id, row.other_id)
        self._tallies.met(row.community_id, member)
        if row.deed == FOLLOW:
            self._tallies.followed(self._number(other))
            return
        post = self._posts.get(other)
        if post is None:
            return
        if row.deed == SHOWN:
            state = self._state(post, row.at)
            self._pasts[member].shown(row.at, post, state, self._plan.past_max)
        elif row.deed in POSITIVE:
            state = self._state(post, row.at)
            self._pasts[member].engaged(row.at, post, state, self._plan.positives_max)
        self._tallies.count(post, row.deed)

    def moment(self, row: MomentRow, logged: Logged | None, profile: ProfileRow | None) -> bool:
        """Hear of a moment; return whether there was anything to learn from it.

        Args:
            row: the moment.
            logged: of a served feed; None where it is replayed.
            profile: of the member, where it is replayed; None where the member is gone.
        """
        member = self._number(row.member)
        before = self._before(row, member, logged, profile)
        if before is None:
            self._counted["unlogged"] += 1
            return False
        shown = self._shown(row, member, before, logged)
        if not shown.states:
            return False
        past, answered = self._pasts[member].impressions(self._plan.past_max)
        known_until = max(
            self._pasts[member].until,
            self._member_known_at[before.state],
            *before.positives_at,
            *(self._known_at[state] for state in (*shown.states, *before.positives)),
        )
        assert known_until < row.at, "what comes in the order of time is known before"
        self._tables.moments.add(
            Moment(
                at=row.at,
                member_state=before.state,
                positives=before.positives,
                positives_at=before.positives_at,
                past=past,
                past_engaged=answered,
                shown=shown.states,
                engaged=shown.engaged,
                positions=shown.positions,
                features=shown.features,
                served_feed_id=row.served_feed_id,
                encoder="" if logged is None else logged.encoder,
                replayed=logged is None,
                lone=row.lone,
                known_until=known_until,
                labelled_until=row.labelled_until,
            )
        )
        self._counted["shown"] += len(shown.states)
        self._counted["engaged"] += sum(shown.engaged)
        self._counted["replayed"] += logged is None
        self._counted["lone"] += row.lone
        return True

    def has_profile(self, member: Key) -> bool:
        """Return whether a replayed moment of a member needs no profile to be looked up."""
        number = self._members.get(member)
        return number in self._first or number in self._profiles

    def counts(self, unripe: int) -> Counts:
        """Return how much was written, and what was left out."""
        tables = self._tables
        return Counts(
            wordings=tables.wordings.count,
            posts=tables.posts.count,
            members=tables.members.count,
            moments=tables.moments.count,
            unripe=unripe,
            **self._counted,
        )

    # ------------------------------------------------- moments

    def _before(
        self, row: MomentRow, member: int, logged: Logged | None, profile: ProfileRow | None
    ) -> Before | None:
        """Return what was known of the member; None where nobody knows."""
        if logged is None:
            state = self._first_state(member, profile)
            if state is None:
                return None
            positives, times = self._pasts[member].positives(self._plan.positives_max)
            return Before(state, positives, times)
        lines = self._lines.get((member, logged.encoder))
        if not lines or logged.position < 0:
            return None
        behind = [line for line in lines if line.position <= logged.position]
        line = behind[-1] if behind else lines[-1]
        if logged.liked is not None:
            return Before(line.state, *self._pooled(row.at, logged.encoder, logged.liked))
        return Before(line.state, list(line.positives), list(line.positives_at))

    def _pooled(
        self, at: Instant, encoder: str, liked: Sequence[tuple[Key, Instant]]
    ) -> tuple[list[int], list[Instant]]:
        """Return the history that a vector was pooled from, oldest first: states, and times.

        What a member did by a clock that runs ahead is in the record before it has happened; that
        is left out, and heard of in its turn.
        """
        states: list[int] = []
        times: list[Instant] = []
        before = [one for one in liked if one[1] < at][: self._plan.positives_max]
        for key, when in reversed(before):
            post = self._posts.get(key)
            if post is None:
                continue
            said = self._said[encoder].get(post)
            states.append(self._state(post, at) if said is None else said)
            times.append(when)
        return states, times

    def _shown(self, row: MomentRow, member: int, before: Before, logged: Logged | None) -> Shown:
        """Return the posts of a moment, in the states that were in force."""
        found = Shown([], [], [], [])
        met = self._pasts[member].met
        history = {self._post_of[state] for state in before.positives}
        columns = zip(row.post_communities, row.post_ids, row.positions, row.engaged, strict=True)
        for community, identity, position, engaged in columns:
            key = Key(community, identity)
            post = self._posts.get(key)
            state = None if post is None else self._shown_state(post, row.at, logged)
            if post is None or state is None or self._authors[post] == member:
                self._counted["unsaid"] += 1
                continue
            if post in met or post in history:
                self._counted["repeated"] += 1
                continue
            if logged is not None and logged.features is not None:
                found.features += logged.features[key]
            found.states.append(state)
            found.engaged.append(engaged)
            found.positions.append(min(position, POSITION_MAX))
        return found

    def _shown_state(self, post: int, at: Instant, logged: Logged | None) -> int | None:
        """Return the state of a shown post; None where the log does not tell it."""
        if logged is None:
            return self._state(post, at)
        if logged.features is not None and self._keys[post] not in logged.features:
            return None
        return self._said[logged.encoder].get(post)

    # ------------------------------------------------- states

    def _state(self, post: int, at: Instant) -> int:
        """Return the state of a post: what the log says, or else what it must have been."""
        state = self._newest.get(post)
        if state is None:
            state = self._tallies.held(post, at)
        return self._replay(post, at, at - 1) if state is None else state

    def _replay(self, post: int, at: Instant, known_at: Instant) -> int:
        """Make a state of what was counted until now, which was known before what happens now."""
        percentiles = self._tallies.percentiles(post, at)
        state = self._add_state(post, known_at, percentiles, self._tallies.numbers(post, at))
        self._tallies.keep(post, state, percentiles, at)
        return state

    def _add_state(
        self, post: int, known_at: Instant, percentiles: Sequence[int], numbers: Sequence[int]
    ) -> int:
        key = self._keys[post]
        self._post_of.append(post)
        self._known_at.append(known_at)
        return self._tables.posts.add(
            PostState(
                post=post,
                community_id=key.community_id,
                post_id=key.id,
                author=self._authors[post],
                wording=self._wordings[post][1],
                known_at=known_at,
                percentiles=list(percentiles),
                numbers=[min(number, NUMBER_MAX) for number in numbers],
            )
        )

    def _word(self, post: int, said: PostSaid) -> None:
        """Take what a post says; where that is new, it is written down."""
        words = (said.kind, said.author_name, said.headline, said.community, said.title, said.text)
        name = hash((*words, *said.topics))
        if self._wordings[post][0] == name and self._wordings[post][1] >= 0:
            return
        wording = Wording(
            post=post,
            kind=said.kind,
            author_name=said.author_name,
            headline=said.headline,
            community=said.community,
            topics=said.topics,
            title=said.title,
            text=said.text,
        )
        self._wordings[post] = (name, self._tables.wordings.add(wording))

    # ------------------------------------------------- members

    def _member_line(self, row: LineRow) -> None:
        said = member_of(row.facts)
        member = self._number(row.key)
        state = self._profile(member, row.key, said, row.made_at)
        past, states, times = self._pasts[member], array("i"), array("q")
        keys = said.keys(row.community_id)[: self._plan.positives_max]
        for key in reversed(keys):
            post = self._posts.get(key)
            liked = None if post is None else self._liked_state(post, row)
            if post is None or liked is None:
                continue
            states.append(liked)
            times.append(min(past.engaged_at(post) or row.made_at, row.made_at))
        lines = self._lines.setdefault((member, row.model_version), deque(maxlen=LINES_KEPT))
        lines.append(MemberLine(row.position, state, states, times))

    def _liked_state(self, post: int, row: LineRow) -> int | None:
        found = self._said[row.model_version].get(post)
        return self._state(post, row.made_at) if found is None else found

    def _profile(self, member: int, key: Key, said: MemberSaid, known_at: Instant) -> int:
        name = _profile_name(said)
        before = self._profiles.get(member)
        if before is not None and before[0] == name:
            return before[1]
        state = self._add_member(member, key, said, known_at)
        self._profiles[member] = (name, state)
        return state

    def _first_state(self, member: int, profile: ProfileRow | None) -> int | None:
        """Return the newest logged profile of a member, or else the first known, as always true."""
        if member in self._profiles:
            return self._profiles[member][1]
        if member not in self._first and profile is not None:
            said = profile if profile.said is None else member_of(profile.said)
            self._first[member] = self._add_member(member, profile.key, said, ALWAYS)
        return self._first.get(member)

    def _add_member(
        self, member: int, key: Key, said: MemberSaid | ProfileRow, known_at: Instant
    ) -> int:
        self._member_known_at.append(known_at)
        return self._tables.members.add(
            MemberState(
                member=member,
                community_id=key.community_id,
                member_id=key.id,
                known_at=known_at,
                display_name=said.display_name,
                headline=said.headline,
                about=said.about,
                skills=said.skills,
                place=said.place,
                languages=said.languages,
            )
        )

    def _number(self, key: Key) -> int:
        return self._members.setdefault(key, len(self._members))


def _profile_name(said: MemberSaid) -> bytes:
    """Return what tells two profiles apart."""
    return msgspec.msgpack.encode(
        [said.display_name, said.headline, said.about, said.skills, said.place, said.languages]
    )


def _said_first(row: BirthRow) -> PostSaid:
    """Return what was first known of a post: what its first prompt said, or else what it says."""
    if row.said is not None:
        return post_of(row.said)
    return PostSaid(
        kind=row.kind,
        author_name=row.author_name,
        headline=row.headline,
        community=row.community_name,
        topics=row.topics,
        title=row.title,
        text=row.text,
        percentiles=[],
        numbers=[],
    )
