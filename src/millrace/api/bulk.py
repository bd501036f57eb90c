"""Bulk upserts by external id, for operators. The same batch twice changes nothing."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from litestar import post
from litestar.status_codes import HTTP_200_OK

from millrace.api import batches, bodies, wire
from millrace.api.asked import Asked, program_of, read, viewer_of
from millrace.community.types import (
    BatchResult,
    CommentDraft,
    CommunityDraft,
    EngagementDraft,
    FollowDraft,
    ImpressionDraft,
    MemberDraft,
    PostDraft,
    Viewer,
)
from millrace.kernel.errors import InvalidError

TAGS = ["bulk"]
Draft = TypeVar("Draft")
Upsert = Callable[[Viewer, int, list[Draft]], Awaitable[BatchResult]]


def _itself(draft: Draft) -> Draft:
    return draft


async def _bulk(request: Asked, form: type[Draft], upsert: Upsert[Draft]) -> wire.BatchResult:
    """Read a batch for one community and hand it on.

    Raises:
        InvalidError: the body names no community.
    """
    program, viewer = program_of(request), viewer_of(request)
    envelope = await read(request, bodies.BulkEnvelope)
    batches.check_length(envelope.items, bodies.BULK_ITEMS_MAX)
    if not envelope.community:
        raise InvalidError(
            "the batch names no community",
            field="community",
            limit="an id or an external id",
            next_step="send the community that the items belong to",
        )
    number = (await program.communities.find(envelope.community)).community_id
    parsed = batches.parse(envelope.items, form, _itself)
    return await batches.taken(parsed, lambda drafts: upsert(viewer, number, drafts), number)


@post("/v1/bulk/communities", summary="Communities", tags=TAGS, status_code=HTTP_200_OK)
async def bulk_communities(request: Asked) -> wire.BatchResult:
    """Create communities or bring them up to date."""
    program, viewer = program_of(request), viewer_of(request)
    envelope = await read(request, bodies.Envelope)
    batches.check_length(envelope.items, bodies.BULK_ITEMS_MAX)
    parsed = batches.parse(envelope.items, CommunityDraft, _itself)
    return await batches.taken(parsed, lambda drafts: program.communities.upsert(viewer, drafts))


@post("/v1/bulk/members", summary="Members", tags=TAGS, status_code=HTTP_200_OK)
async def bulk_members(request: Asked) -> wire.BatchResult:
    """Create members or bring them up to date."""
    return await _bulk(request, MemberDraft, program_of(request).members.upsert)


@post("/v1/bulk/posts", summary="Posts", tags=TAGS, status_code=HTTP_200_OK)
async def bulk_posts(request: Asked) -> wire.BatchResult:
    """Create posts or bring them up to date."""
    return await _bulk(request, PostDraft, program_of(request).posts.upsert)


@post("/v1/bulk/comments", summary="Comments", tags=TAGS, status_code=HTTP_200_OK)
async def bulk_comments(request: Asked) -> wire.BatchResult:
    """Create comments or bring them up to date."""
    return await _bulk(request, CommentDraft, program_of(request).threads.upsert)


@post("/v1/bulk/follows", summary="Follows", tags=TAGS, status_code=HTTP_200_OK)
async def bulk_follows(request: Asked) -> wire.BatchResult:
    """Create follows."""
    return await _bulk(request, FollowDraft, program_of(request).relations.upsert_follows)


@post("/v1/bulk/impressions", summary="Impressions", tags=TAGS, status_code=HTTP_200_OK)
async def bulk_impressions(request: Asked) -> wire.BatchResult:
    """Record impressions of the past."""
    return await _bulk(request, ImpressionDraft, program_of(request).activity.upsert_impressions)


@post("/v1/bulk/engagements", summary="Engagements", tags=TAGS, status_code=HTTP_200_OK)
async def bulk_engagements(request: Asked) -> wire.BatchResult:
    """Record engagements of the past."""
    return await _bulk(request, EngagementDraft, program_of(request).activity.upsert_engagements)


HANDLERS = [
    bulk_communities, bulk_members, bulk_posts, bulk_comments, bulk_follows,
    bulk_impressions, bulk_engagements,
]  # fmt: skip
