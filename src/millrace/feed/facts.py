"""From rows to what a prompt says: numbers become percentiles of the post's community. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from millrace.community.types import Key, PostView
from millrace.feed.numbers import PromptRow
from millrace.feed.prompts.types import MemberFacts, PostFacts

PERCENTILES = 6


class Profile(Struct, frozen=True, kw_only=True):
    """What a member says of themself."""

    display_name: str
    headline: str
    about: str
    skills: list[str]
    place: str
    languages: list[str]


def post_facts(post: PromptRow, percentiles: Sequence[int]) -> PostFacts:
    """Return what a prompt says of a post.

    Args:
        post: what it says.
        percentiles: its numbers, in the order of the prompt's markers; empty where unknown.
    """
    age, views, likes, comments, engagement, reach = percentiles or [None] * PERCENTILES
    return PostFacts(
        kind=post.kind,
        author_name=post.author_name,
        headline=post.headline,
        community=post.community_name,
        topics=post.topics,
        title=post.title,
        text=post.text,
        created_at=post.created_at,
        age_percentile=age,
        view_percentile=views,
        like_percentile=likes,
        comment_percentile=comments,
        engagement_percentile=engagement,
        author_reach_percentile=reach,
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
