"""Where a page may send somebody next: only to a path of this very site."""

import re

# One slash, then anything but a second slash or a backslash, which browsers read as another host.
# White space and control characters are refused, because browsers drop some before they parse.
LOCAL = re.compile(r"/(?:[^/\\\x00-\x20\x7f][^\\\x00-\x20\x7f]*)?")
LENGTH_MAX = 2_000
AWAY = ("/sign-in", "/sign-out", "/static/", "/v1/")


def local_path(wanted: str) -> str:
    """Return the wanted path if it is a page of this site, else the feed's."""
    if len(wanted) > LENGTH_MAX or not LOCAL.fullmatch(wanted) or wanted.startswith(AWAY):
        return "/"
    return wanted
