"""Hashes are frozen: ids and fingerprints that are stored must mean the same for ever."""

from hypothesis import given
from hypothesis import strategies as st

from millrace.kernel.hashing import fingerprint, hash64


def test_known_values() -> None:
    assert hash64("") == 0xE4A6A0577479B2B4
    assert fingerprint(b"") == "e4a6a0577479b2b4"
    assert hash64("Mühle") == int(fingerprint("Mühle".encode()), 16)


@given(st.text())
def test_a_hash_fits_into_64_bits(text: str) -> None:
    assert 0 <= hash64(text) < 1 << 64
