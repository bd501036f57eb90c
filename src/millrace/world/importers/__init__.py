"""Readers of what others wrote: one file per kind of source, and the list of kinds."""
