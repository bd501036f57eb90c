"""Goal: the inventory and the documents tell everything, and the application holds to them."""

from pathlib import Path

import pytest

from millrace.api.app import create_app
from millrace.api.errors import STATUS, titles
from millrace.api.inventory import ROUTES, Inventory, RateClass, RouteRule, Scope
from millrace.api.testing import town
from millrace.kernel.errors import SetupError
from millrace.settings import RATES

DOCS = Path(__file__).parents[2] / "docs"
EXTRA = RouteRule(method="GET", path="/v1/x", scope=Scope.PUBLIC, rate_class=RateClass.READ)


async def test_the_application_refuses_what_is_not_declared(conninfo, tmp_path):
    """A route without a row, or a row without a route, is found before anything is served."""
    async with town(conninfo, str(tmp_path)) as place:
        fewer = Inventory(rule for rule in ROUTES if rule.path != "/v1/me")
        with pytest.raises(SetupError, match=r"without a row \[\('GET', '/v1/me'\)\]"):
            create_app(place.program, inventory=fewer)
        with pytest.raises(SetupError, match=r"without a route .*'/v1/x'"):
            create_app(place.program, inventory=Inventory([*ROUTES, EXTRA]))


def test_two_rows_for_one_route_are_refused():
    """The second row would silently win."""
    with pytest.raises(SetupError, match="two rows"):
        Inventory([EXTRA, EXTRA])


def test_every_route_declares_what_the_door_needs():
    """No route takes a body without a limit, every JSON body has a form, every class a rate."""
    for rule in Inventory():
        assert (rule.media == "none") == (rule.body_bytes_max == 0), rule.path
        assert (rule.media == "json") == (rule.body is not None), rule.path
        assert rule.rate_class in RATES, rule.path
        assert rule.scope is not Scope.PUBLIC or not rule.unsafe or rule.page, rule.path


def test_every_code_has_a_status_and_a_row():
    """docs/errors.md explains every code that the doors can answer."""
    text = (DOCS / "errors.md").read_text()
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}

    assert set(rows) == set(STATUS) == set(titles())
    wrong = [code for code, line in rows.items() if f"| {STATUS[code]} |" not in line]
    assert not wrong, f"docs/errors.md has another status for {wrong}"


async def test_the_document_says_where_if_match_counts(conninfo, tmp_path):
    """What takes an ETag is told, with the refusal; what ignores it does not pretend to."""
    async with town(conninfo, str(tmp_path)) as place, place.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    taking = {
        (method, path)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if any(one["name"] == "If-Match" for one in operation["parameters"])
    }

    member, post = "/v1/members/{member_id}", "/v1/posts/{post_id}"
    flag, rule = "/v1/flags/{key}", "/v1/rings/{track}/{ring}/rule"
    expected = {(method, path) for method in ("patch", "delete") for path in (member, post)}
    expected |= {("put", flag), ("delete", flag), ("put", rule)}
    expected |= {("post", f"{flag}/{verb}") for verb in ("revive", "ramp", "revert")}
    assert taking == expected
    assert all("412" in paths[path][method]["responses"] for method, path in taking)
