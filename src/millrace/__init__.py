"""Millrace: the feed engine that a team can run itself."""
