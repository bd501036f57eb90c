"""Goal: what the server knows goes over what a client claims, and what nobody knows is left alone."""

from hypothesis import given
from hypothesis import strategies as st

from millrace.community.types import Key
from millrace.release.flags.contexts import App, enriched, member_of, of_member
from millrace.release.flags.rings import RingBook
from millrace.release.flags.types import RINGS, Ring, RingRule

COUNTRIES = {7: "NL", 8: ""}
CREW = RingRule(track="ios", ring=Ring.EMPLOYEES, attribute="crew", values=("yes",))
NEW = RingRule(track="ios", ring=Ring.BETA, attribute="appVersion", values=("9.0.0",))
DUTCH = RingRule(track="server", ring=Ring.ALPHA, attribute="country", values=("NL",))
NOBODY = RingRule(track="server", ring=Ring.ONE_PERCENT)
RULES = [CREW, NEW, DUTCH, NOBODY, RingRule(track="ios", ring=Ring.ONE_PERCENT)]
BOOK = RingBook([], RULES)


def known(context, *, trusted=False):
    """Return a context as a decision sees it."""
    return enriched(context, BOOK, COUNTRIES, trusted=trusted)


def test_a_claim_about_oneself_opens_no_ring():
    """A member's own word for it is not enough; that of a caller who is no client is."""
    claimed = {"targetingKey": "7-1", "track": "ios", "crew": "yes", "ring": "employees"}

    assert known(claimed)["rings"] == ["everyone"]
    assert known(claimed, trusted=True)["ring"] == "employees"
    assert known({**claimed, "appVersion": "9.0.0"})["ring"] == "beta"
    assert known({**claimed, "targetingKey": "a device"})["ring"] == "everyone"


def test_a_track_that_there_is_not_draws_no_lot():
    """One per cent is drawn by track and member, so inventing tracks would be drawing until it hits."""
    book = RingBook([], [RingRule(track="watch", ring=Ring.BETA, percentage=100)])

    def ring(member: int, track: object, *, trusted: bool = False):
        context = {"targetingKey": f"7-{member}", "track": track}
        return enriched(context, book, COUNTRIES, trusted=trusted)["ring"]

    for member in range(1, 40):
        own = ring(member, "server")
        assert {ring(member, odd) for odd in ("watch", "IOS", "", None, 7, ["ios"])} == {own}
        assert {ring(member, f"t{number}") for number in range(200)} == {own}
        assert ring(member, "watch", trusted=True) == "beta"


def test_a_market_is_the_members_own_where_it_is_known():
    """Of a member of ours it is the community's; else what the client says is all there is."""
    claims = {"country": "US", "community": "1"}

    found = known({"targetingKey": "7-1", **claims})
    assert (found["country"], found["community"], found["ring"]) == ("NL", "7", "alpha")
    found = known({"targetingKey": "8-1", **claims})
    assert (found["country"], found["community"], found["ring"]) == ("US", "8", "everyone")
    stranger = known({"targetingKey": "9-1", **claims, "country": "NL"})
    assert (stranger["country"], stranger["community"]) == ("NL", "1")
    assert stranger["ring"] == "everyone"


def test_the_context_that_came_is_not_touched():
    """Whoever sent it may send it again."""
    context = {"targetingKey": "7-1", "ring": "employees"}

    known(context)

    assert context == {"targetingKey": "7-1", "ring": "employees"}


def test_a_member_is_who_has_a_key_of_a_community_of_ours():
    """Anything else is somebody, and not a member."""
    names = ["7-1", "9-1", "7-", "-1", "7-1 ", "7-99999999999999999999", "7-9999999999999999999", "ann", "", 7, None, ["7-1"]]  # fmt: skip

    assert [member_of({"targetingKey": name}, COUNTRIES) for name in names] == [
        Key(7, 1), *[None] * (len(names) - 1)
    ]  # fmt: skip
    assert member_of({}, COUNTRIES) is None


def test_what_is_not_known_is_left_out():
    """An empty version is no version, and no rule should meet it."""
    assert of_member(Key(7, 1), App(), "") == {
        "targetingKey": "7-1", "track": "server", "community": "7",
    }  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@given(
    context=st.dictionaries(
        st.sampled_from(
            ["targetingKey", "track", "ring", "rings", "community", "country", "appVersion", "x"]
        ),
        JSON | st.sampled_from(["7-1", "8-2", "ios", "employees"]),
    ),
    trusted=st.booleans(),
)
def test_whatever_comes_has_true_rings(context, trusted):
    """Never an error; rings from the inside out, and the innermost by name."""
    found = known(context, trusted=trusted)

    rings = [ring.value for ring in RINGS]
    assert found["rings"] == rings[rings.index(found["ring"]) :]
    assert {name: value for name, value in found.items() if name == "x"} == {
        name: value for name, value in context.items() if name == "x"
    }
