"""The queries of flags, and what they need beside the nouns."""

from millrace.store.queries import load

QUERIES = load("millrace.release.flags")

EVALUATORS = "$evaluators"
METADATA = "$metadata"
SHARED = (EVALUATORS, METADATA)
"""What all flags share; kept, versioned and reviewed as flags are, under keys no flag can have."""
