"""Goal: whoever has a variant keeps it while its percentage grows, wherever it stands in a split."""

from fractions import Fraction
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from millrace.kernel.errors import ConflictError
from millrace.release.flags.edits import with_ramp

TOTALS = {100 * 10**places for places in range(7)}
VARIANTS = ["a", "b", "c", "d", "e"]
weights = st.lists(st.integers(0, 60), min_size=1, max_size=5).filter(sum)
percentages = st.integers(0, 1000).map(lambda n: n / 10) | st.integers(0, 10**8).map(
    lambda n: n / 10**6
)


def covered(targeting: dict[str, Any], variant: str) -> tuple[Fraction, Fraction]:
    """From where to where in the whole a variant has everybody."""
    shares = targeting["fractional"]
    total, before = sum(weight for _, weight in shares), 0
    for name, weight in shares:
        if name == variant:
            return Fraction(before, total), Fraction(before + weight, total)
        before += weight
    raise AssertionError(f"{variant} is not in {shares}")


def ramped(definition: dict[str, Any], variant: str, percentage: float) -> dict[str, Any]:
    """The definition with a percentage, where there is a total that holds it."""
    try:
        return with_ramp(definition, variant, percentage)
    except ConflictError as error:
        assume("too near" not in error.message)
        raise


@given(weights, st.sampled_from(VARIANTS), percentages, percentages)
def test_a_variant_that_grows_keeps_its_members(found, variant, one, other):
    """Also in the middle of a split of five; and while it shrinks, nobody gets it anew."""
    shares = [list(share) for share in zip(VARIANTS, found, strict=False)]
    definition = {
        "variants": dict.fromkeys(VARIANTS, 1),
        "defaultVariant": "a" if variant != "a" else "b",
        "targeting": {"fractional": shares},
    }
    small, large = sorted([one, other])

    before = ramped(definition, variant, small)
    after = ramped(before, variant, large)
    back = ramped(after, variant, small)

    inner, outer, again = (covered(each["targeting"], variant) for each in (before, after, back))
    assert inner[1] - inner[0] == Fraction(str(small)) / 100
    assert outer[1] - outer[0] == Fraction(str(large)) / 100
    assert {
        sum(w for _, w in each["targeting"]["fractional"]) for each in (before, after)
    } <= TOTALS
    assert outer[0] <= inner[0]
    assert inner[1] <= outer[1]
    assert outer[0] <= again[0]
    assert again[1] <= outer[1]


@given(weights, percentages)
def test_the_others_share_the_rest_as_they_did(found, percentage):
    """To a whole step of the total, and in their order."""
    shares = [["new", 0], *(list(share) for share in zip(VARIANTS, found, strict=False))]
    definition = {"variants": dict.fromkeys(["new", *VARIANTS], 1), "defaultVariant": "a"}

    changed = ramped({**definition, "targeting": {"fractional": shares}}, "new", percentage)

    after = changed["targeting"]["fractional"]
    assert [name for name, _ in after] == [name for name, _ in shares]
    total, rest = sum(weight for _, weight in after), 1 - Fraction(str(percentage)) / 100
    assert total in TOTALS
    for (_, was), (_, weight) in zip(shares[1:], after[1:], strict=True):
        assert abs(Fraction(weight, total) - rest * Fraction(was, sum(found))) < Fraction(1, total)
