"""Flags: who is given what, decided in memory, and how that is changed."""
