"""Optimistic locking: a change may say which version it was made from."""

from millrace.kernel.errors import ConflictError


def expect(expected: int | None, found: int, thing: str) -> None:
    """Refuse a change that was made from another version.

    Raises:
        ConflictError: names both versions.
    """
    if expected is None or expected == found:
        return
    raise ConflictError(
        f"{thing} has version {found}, the change was made from version {expected}",
        field="system_version",
        value=expected,
        limit=found,
        next_step="read it again and repeat the change",
    )
