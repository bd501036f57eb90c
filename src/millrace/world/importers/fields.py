"""What every importer says of a field that it cannot use."""


class FieldError(Exception):
    """A row lacks a field, or has one that cannot be; the row is rejected with the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason
