"""One JSON line per request and per unforeseen error. Never a token, a body or a query string."""

import sys
from collections.abc import Callable
from typing import Any, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer

Log = Callable[..., None]


def make_log(stream: TextIO | None = None) -> Any:
    """Return a logger that writes JSON lines to `stream`, or to standard error.

    It is made here and handed on, so that no global configuration is touched.
    """
    return structlog.wrap_logger(
        structlog.WriteLogger(stream or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # The values of local variables are left out: tokens, cookies and the secret are there.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        cache_logger_on_first_use=True,
    )
