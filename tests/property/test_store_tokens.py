"""Goal: a token is either one of ours or nothing; no text makes it raise."""

import hashlib
import hmac

from hypothesis import example, given
from hypothesis import strategies as st

from millrace.store.tokens import sign, verify
from millrace.store.types import Position

SECRET, OTHER = b"one secret of thirty-two bytes..", b"another secret of the same size."
positions = st.builds(
    Position,
    cluster=st.integers(0, 2**64 - 1).map(str),
    timeline=st.integers(1, 2**31 - 1),
    lsn=st.integers(0, 2**63 - 1),
)


@given(position=positions)
def test_what_we_signed_comes_back(position):
    """Also the longest one fits."""
    token = sign(position, SECRET)

    assert verify(token, SECRET) == position
    assert len(token) <= 90
    assert verify(token, OTHER) is None


@given(position=positions, place=st.integers(0, 200), letter=st.characters())
def test_any_change_breaks_it(position, place, letter):
    """One other character anywhere, and the token is nobody's."""
    token = sign(position, SECRET)
    place %= len(token)
    changed = token[:place] + letter + token[place + 1 :]

    assert verify(changed, SECRET) == (position if changed == token else None)


@given(text=st.text() | st.text(alphabet="0123456789abcdef.-+_ \0\ud800٣²", max_size=130))
@example("")
@example("." * 5)
@example("1.1.1.1." + "0" * 32)
@example("1.٣.٣.٣.٣")
@example("\ud800.")
def test_no_text_raises(text):
    """Tokens come from anybody."""
    assert verify(text, SECRET) is None


@given(body=st.text(max_size=60))
@example("1.c.1_0.f")
@example("1.c. 1.f")
@example("1.c.-1.-f")
@example("1.c.1.0xf")
@example("2.c.1.f")
def test_only_the_frozen_format_counts(body):
    """Even under our own signature, only what `sign` writes is read: one position, one token."""
    signature = hmac.new(SECRET, body.encode(errors="replace"), hashlib.sha256).hexdigest()[:32]
    token = f"{body}.{signature}"
    found = verify(token, SECRET)

    assert found is None or sign(found, SECRET) == token


def test_format_1_is_frozen():
    """Members carry these for days: the text for a position never changes."""
    assert (
        sign(Position("7421", 1, 0x16B3F80), SECRET)
        == "1.7421.1.16b3f80.b0483ba8bc397b665fb441749c37177c"
    )
