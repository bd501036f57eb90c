"""Hashes that mean the same on every machine and in every release."""

import hashlib


def hash64(text: str) -> int:
    """Return the first 64 bits of BLAKE2b over the UTF-8 text, unsigned."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def fingerprint(content: bytes) -> str:
    """Return a short hex name for content: 16 characters, 64 bits."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()
