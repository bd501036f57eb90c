"""How an error is told: a problem for programs, a page for people, the sign-in for strangers."""

from urllib.parse import quote

from msgspec import Struct

from millrace.api import wire_ofrep
from millrace.api.asked import Asked
from millrace.api.errors import MEDIA_TYPE, answer_of
from millrace.api.evaluations import code_of
from millrace.api.inventory import EVALUATE, OFREP, RouteRule
from millrace.kernel.errors import MillraceError
from millrace.web.problem_page import problem_page

SIGN_IN = "/sign-in"
HTML = "text/html; charset=utf-8"


class Reply(Struct, frozen=True):
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes


def refusal(error: MillraceError, request: Asked, rule: RouteRule | None) -> Reply:
    """Return what to answer for an error on this route.

    Args:
        error: what stopped the request.
        request: the request; its state has the request id.
        rule: the route's row; None where there is no route.
    """
    if request.scope["path"].startswith(OFREP):
        return ofrep_refusal(error, request.scope["path"])
    answer = answer_of(error, request.scope["state"]["request_id"])
    problem = answer.problem
    page = rule is not None and rule.page and "x-fragment" not in request.headers
    if page and problem.status == 401:
        target = request.scope["path"] if request.method == "GET" else "/"
        return Reply(303, {"location": f"{SIGN_IN}?next={quote(target, safe='/')}"}, b"")
    if _for_people(request, rule):
        drawn = problem_page(
            problem.status, problem.detail, problem.next_step or "", problem.request_id
        )
        return Reply(problem.status, answer.headers | {"content-type": HTML}, drawn.encode())
    return Reply(problem.status, answer.headers | {"content-type": MEDIA_TYPE}, answer.body())


def ofrep_refusal(error: MillraceError, path: str) -> Reply:
    """Return what to answer to a client of OFREP, whose errors have a form of their own."""
    answer = answer_of(error, "")
    key = path.removeprefix(EVALUATE).strip("/") if path.startswith(EVALUATE) else ""
    step = f"; {error.next_step}" if error.next_step else ""
    body = wire_ofrep.failure(code_of(error), f"{error.message}{step}", key or None)
    headers = answer.headers | {"content-type": wire_ofrep.MEDIA_TYPE}
    return Reply(answer.problem.status, headers, body)


def _for_people(request: Asked, rule: RouteRule | None) -> bool:
    """Whether a person reads the answer: a browser that opens a page or a wrong address."""
    headers = request.headers
    if "text/html" not in headers.get("accept", "") or "x-fragment" in headers:
        return False
    return rule.page if rule is not None else not request.scope["path"].startswith("/v1/")
