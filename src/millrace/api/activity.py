"""What members saw and did, in batches."""

from litestar import post
from litestar.status_codes import HTTP_200_OK

from millrace.api import batches, bodies, wire
from millrace.api.asked import Asked, program_of, read, viewer_of
from millrace.community.types import Engagement, Impression, Key, Viewer, parse_key
from millrace.kernel.errors import InvalidError

TAGS = ["activity"]


def _member(viewer: Viewer, member_id: str | None) -> Key:
    """Return whose activity an item is: the named member's, else the caller's own.

    Raises:
        InvalidError: an operator names nobody.
    """
    if member_id is not None:
        return parse_key(member_id, "member_id")
    if viewer.member is None:
        raise InvalidError(
            "member_id is needed, because the caller is not a member",
            field="member_id",
            next_step="say whose activity it is",
        )
    return viewer.member


@post("/v1/impressions", summary="Posts that were shown", tags=TAGS, status_code=HTTP_200_OK)
async def record_impressions(request: Asked) -> wire.BatchResult:
    """Record which posts were shown; a repeated batch changes nothing."""
    viewer = viewer_of(request)
    envelope = await read(request, bodies.Envelope)
    batches.check_length(envelope.items, bodies.BATCH_ITEMS_MAX)

    def drafted(form: bodies.ImpressionNew) -> Impression:
        feed_id = form.served_feed_id
        return Impression(
            member=_member(viewer, form.member_id),
            post=parse_key(form.post_id, "post_id"),
            shown_at=form.shown_at,
            position=form.position,
            surface=form.surface,
            served_feed_id=None if feed_id is None else parse_key(f"0-{feed_id}").id,
            app_version=form.app_version,
        )

    parsed = batches.parse(envelope.items, bodies.ImpressionNew, drafted)
    activity = program_of(request).activity
    return await batches.taken(parsed, lambda drafts: activity.record(viewer, drafts, []))


@post("/v1/engagements", summary="What was done with posts", tags=TAGS, status_code=HTTP_200_OK)
async def record_engagements(request: Asked) -> wire.BatchResult:
    """Record what was done with posts; hide, mute and block take effect at once."""
    viewer = viewer_of(request)
    envelope = await read(request, bodies.Envelope)
    batches.check_length(envelope.items, bodies.BATCH_ITEMS_MAX)

    def drafted(form: bodies.EngagementNew) -> Engagement:
        return Engagement(
            member=_member(viewer, form.member_id),
            post=parse_key(form.post_id, "post_id"),
            kind=form.kind,
            happened_at=form.happened_at,
            surface=form.surface,
            position=form.position,
            dwell_ms=form.dwell_ms,
            app_version=form.app_version,
        )

    parsed = batches.parse(envelope.items, bodies.EngagementNew, drafted)
    activity = program_of(request).activity
    return await batches.taken(parsed, lambda drafts: activity.record(viewer, [], drafts))


HANDLERS = [record_impressions, record_engagements]
