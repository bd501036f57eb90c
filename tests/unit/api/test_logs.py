"""Goal: programs read every line as JSON, people read requests, and no path paints a terminal."""

from io import StringIO

import msgspec

from millrace.api.logs import make_log

REQUEST = {
    "request_id": "1", "method": "GET", "route": "/posts/{post_id}", "path": "/posts/\x1b[31m\u202e",
    "status": 200, "milliseconds": 5.2, "caller": "operator:grace",
}  # fmt: skip


class Terminal(StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def lines(stream: StringIO) -> list[str]:
    """Return what a log writes of a request and of something else."""
    log = make_log(stream)
    log.info("request", **REQUEST)
    log.warning("newer_posts_unknown", reason="away")
    return stream.getvalue().splitlines()


def test_a_program_reads_json():
    """Every line, with everything in it."""
    first, second = (msgspec.json.decode(line) for line in lines(StringIO()))

    assert first.items() >= (REQUEST | {"event": "request", "level": "info"}).items()
    assert second["reason"] == "away"


def test_a_person_reads_requests():
    """Short and plain; what may not be printed is spelled out, and the rest stays whole."""
    first, second = lines(Terminal())

    assert first[8:] == r" GET /posts/\x1b[31m\x202e 200 5.2 ms operator:grace"
    assert msgspec.json.decode(second)["reason"] == "away"
