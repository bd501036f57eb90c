"""Reading a batch item by item: a bad item is told by its place, and the others are taken."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
from msgspec import Raw

from millrace.api import wire
from millrace.api.errors import UNREADABLE, place_and_reason
from millrace.community.types import BatchResult, Rejected
from millrace.kernel.errors import InvalidError, TooLargeError

Form = TypeVar("Form")
Draft = TypeVar("Draft")


def check_length(items: Sequence[Raw], limit: int) -> None:
    """Refuse a batch that is too long.

    Raises:
        TooLargeError: names the length and the limit.
    """
    if len(items) > limit:
        raise TooLargeError(
            f"the batch has {len(items)} items",
            field="items",
            value=len(items),
            limit=limit,
            next_step="send it in several requests",
        )


def parse(
    items: Sequence[Raw], form: type[Form], drafted: Callable[[Form], Draft]
) -> tuple[list[Draft], list[int], list[Rejected]]:
    """Return the readable items as drafts, their places in the batch, and what was not readable."""
    drafts: list[Draft] = []
    places: list[int] = []
    rejected: list[Rejected] = []
    for place, item in enumerate(items):
        try:
            drafts.append(drafted(msgspec.json.decode(item, type=form)))
            places.append(place)
        except UNREADABLE as exc:
            rejected.append(Rejected(place, *place_and_reason(exc)))
        except InvalidError as exc:
            rejected.append(Rejected(place, exc.field or "", exc.message))
    return drafts, places, rejected


async def taken(
    parsed: tuple[list[Draft], list[int], list[Rejected]],
    take: Callable[[list[Draft]], Awaitable[BatchResult]],
    community_id: int | None = None,
) -> wire.BatchResult:
    """Hand the drafts on, and tell of every item by its place in the batch as it was sent."""
    drafts, places, rejected = parsed
    result = await take(drafts) if drafts else BatchResult(0, 0, 0, [])
    everything = rejected + [
        Rejected(places[one.index], one.field, one.reason) for one in result.rejected
    ]
    everything.sort(key=lambda one: one.index)
    return wire.BatchResult(
        created=result.created,
        updated=result.updated,
        unchanged=result.unchanged,
        rejected=[wire.Rejected(one.index, one.field, one.reason) for one in everything],
        ids={
            name: str(number) if community_id is None else f"{community_id}-{number}"
            for name, number in result.ids.items()
        },
    )
