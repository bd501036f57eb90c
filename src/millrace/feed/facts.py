"""From rows to what a prompt says: numbers become percentiles of the post's community. Pure."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from millrace.community.types import Key, MemberCounts, PostView
from millrace.feed.prompts.types import PERCENTILE_MAX, MemberFacts, PostFacts

Percentile = Callable[[str, float], int]


class Profile(Struct, frozen=True, kw_only=True):
    """What a member says of themself."""

    display_name: str
    headline: str
    about: str
    skills: list[str]
    place: str
    languages: list[str]


def post_facts(
    view: PostView, author: MemberCounts, rate: float, of: Percentile, now: datetime
) -> PostFacts:
    """Return what a prompt says of a post.

    Args:
        view: the post.
        author: the numbers of its author.
        rate: its engagement rate.
        of: the percentiles of its community.
        now: age is counted to here.
    """
    post, counts = view.post, view.counts
    hours = max((now - post.created_at).total_seconds() / 3600, 0.0)
    return PostFacts(
        kind=post.kind.value,
        author_name=view.author.display_name,
        headline=view.author.headline,
        community=view.community_name,
        topics=post.topics,
        title=post.title,
        text=post.text,
        created_at=post.created_at,
        age_percentile=PERCENTILE_MAX - of("age_hours", hours),
        view_percentile=of("views", counts.views),
        like_percentile=of("likes", counts.likes),
        comment_percentile=of("comments", counts.comments),
        engagement_percentile=of("engagement_rate", rate),
        author_reach_percentile=of("author_followers", author.followers),
    )


def history_facts(view: PostView) -> PostFacts:
    """Return what a member's prompt says of a post that the member engaged with: no numbers."""
    post = view.post
    return PostFacts(
        kind=post.kind.value,
        author_name=view.author.display_name,
        headline=view.author.headline,
        community=view.community_name,
        topics=post.topics,
        title=post.title,
        text=post.text,
        created_at=post.created_at,
    )


def member_facts(
    profile: Profile, engaged: Sequence[Key], views: Mapping[Key, PostView]
) -> MemberFacts:
    """Return what a prompt says of a member.

    Args:
        profile: as it stands.
        engaged: posts with a positive engagement, newest engagement first; one may repeat.
        views: those that the member may still see; the others are left out.
    """
    newest = [key for key in dict.fromkeys(engaged) if key in views]
    return MemberFacts(
        display_name=profile.display_name,
        headline=profile.headline,
        about=profile.about,
        skills=profile.skills,
        place=profile.place,
        languages=profile.languages,
        history=[history_facts(views[key]) for key in reversed(newest)],
    )
