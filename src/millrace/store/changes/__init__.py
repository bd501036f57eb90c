"""The change stream: what was committed, in the order of commits, to whoever derives from it."""
