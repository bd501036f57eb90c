"""A problem, told to people. The doors call this where a browser asked for a page."""

from millrace.web.shell import plain_shell, renderer

TITLES = {
    400: "That address or form cannot be read",
    403: "This is not open to you",
    404: "There is nothing here",
    405: "That cannot be done here",
    409: "That does not fit any more",
    413: "That is too much at once",
    422: "That cannot be taken",
    429: "A little slower, please",
    503: "Millrace does not answer now",
}
OTHER = "Something went wrong"


def problem_page(status: int, detail: str, next_step: str, request_id: str) -> str:
    """Draw a problem.

    Args:
        status: the HTTP status, which chooses the title.
        detail: what happened, in a sentence.
        next_step: what to do about it; may be empty.
        request_id: names the request in the log.
    """
    return renderer().text(
        "error.html",
        shell=plain_shell(),
        title=TITLES.get(status, OTHER),
        detail=detail[:1].upper() + detail[1:],
        next_step=next_step,
        request_id=request_id,
    )
