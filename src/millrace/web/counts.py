"""Numbers as a card shows them."""

UNITS = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k"))


def short_count(number: int) -> str:
    """Return 0 to 999 as they are, and larger numbers rounded down: 1.2k, 34k, 5.6M."""
    for size, letter in UNITS:
        if number >= size:
            tenths = number * 10 // size
            return (
                f"{tenths // 10}.{tenths % 10}{letter}"
                if tenths % 10 and tenths < 100
                else (f"{tenths // 10}{letter}")
            )
    return str(number)
