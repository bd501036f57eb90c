"""One line per request and per unforeseen error. Never a token, a body or a query string.

The lines are JSON, except that requests are short and plain where a person watches a terminal.
"""

import sys
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer

Log = Callable[..., None]
JSON = structlog.processors.JSONRenderer()


def make_log(stream: TextIO | None = None) -> Any:
    """Return a logger that writes lines to `stream`, or to standard error.

    It is made here and handed on, so that no global configuration is touched.
    """
    place = stream or sys.stderr
    return structlog.wrap_logger(
        structlog.WriteLogger(place),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # The values of local variables are left out: tokens, cookies and the secret are there.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            _readable if place.isatty() else JSON,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        cache_logger_on_first_use=True,
    )


def _readable(logger: Any, name: str, line: MutableMapping[str, Any]) -> str | bytes:
    """Return a request as a person reads it, and everything else whole."""
    if line.get("event") != "request":
        return JSON(logger, name, line)
    words = (
        str(line["timestamp"])[11:19], line["method"], line["path"], line["status"],
        f"{line['milliseconds']} ms", line["caller"],
    )  # fmt: skip
    return _harmless(" ".join(map(str, words)))


def _harmless(text: str) -> str:
    """Return text without letters that would move a terminal's cursor or colour it."""
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)
