"""The OpenAPI document: what the framework knows of the handlers, and the inventory of the rest.

The framework gives paths, parameters and answers. The inventory gives bodies, who may call, and
with them every problem that a route can answer.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.types import ControllerRouterHandler

from millrace.api.admissions import PARAMETER
from millrace.api.bodies import BULK_BODIES, EngagementBatch, ImpressionBatch
from millrace.api.errors import MEDIA_TYPE, Problem
from millrace.api.inventory import EVALUATE, WAITING, Inventory, Media, RouteRule, Scope
from millrace.api.wire_ofrep import MEDIA_TYPE as OFREP_TYPE
from millrace.api.wire_ofrep import EvaluationFailure
from millrace.release.flags.scans import REPOSITORY

Node = dict[str, Any]
REFERENCES = "#/components/schemas/{name}"
KEY: Node = {"type": "string", "pattern": "^[0-9]{1,19}-[0-9]{1,19}$"}
NUMBER: Node = {"type": "string", "pattern": "^[0-9]{1,19}$"}
TEXT: Node = {"type": "string"}
# Ids are read by the domain, which says more about a wrong one than the framework would.
ID_FORMS: dict[str, Node] = {
    "member_id": KEY, "target_id": KEY, "post_id": KEY, "comment_id": KEY, "author_id": KEY,
    "case_id": KEY, "thing_id": KEY,
    "community_id": NUMBER, "repository": {"type": "string", "pattern": f"^{REPOSITORY.pattern}$"}, "request_id": NUMBER, "token_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}  # fmt: skip
BAD_ITEM: Node = {"description": "Anything else is rejected by its place; the rest is taken."}
HEADER_PARAMETERS: dict[str, tuple[str, str, Node]] = {
    "idempotency": (
        "Idempotency-Key",
        "Runs the write once, however often it is sent.",
        {"type": "string", "pattern": "^[!-~]{1,200}$"},
    ),
    "match": (
        "If-Match",
        "The ETag of the version that the change was made from.",
        TEXT,
    ),
    "none_match": (
        "If-None-Match",
        "The ETag of what the client has; 304 where it is current.",
        TEXT,
    ),
    "token": ("Millrace-Token", "The token of an earlier write: the read is not older.", TEXT),
}


def document(handlers: Sequence[ControllerRouterHandler], inventory: Inventory) -> bytes:
    """Return the document of these handlers as JSON. Pages are for people and stay out of it."""
    described = Litestar(
        handlers, logging_config=None, openapi_config=OpenAPIConfig(title="Millrace", version="1")
    )
    found: Node = described.openapi_schema.to_schema()
    schemas: Node = found.setdefault("components", {}).setdefault("schemas", {})
    rows = [rule for rule in inventory if not rule.page and rule.path in found["paths"]]
    bodies = [rule.body for rule in rows if rule.body is not None]
    _, components = msgspec.json.schema_components(
        [*bodies, Problem, EvaluationFailure], ref_template=REFERENCES
    )
    schemas |= components
    for body in (ImpressionBatch, EngagementBatch, *BULK_BODIES.values()):
        items = schemas[body.__name__]["properties"]["items"]
        items["items"] = {"anyOf": [items["items"], BAD_ITEM]}
    kept: Node = {}
    for rule in rows:
        operation = found["paths"][rule.path][rule.method.lower()]
        kept.setdefault(rule.path, {})[rule.method.lower()] = _completed(operation, rule)
    found["paths"] = kept
    found["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "admission": {"type": "apiKey", "in": "query", "name": PARAMETER},
    }
    found["info"]["description"] = (
        "Errors are RFC 9457 problems. Lists come in pages with a cursor. Every write takes an "
        "Idempotency-Key."
    )
    return msgspec.json.encode(found)


def _completed(operation: Node, rule: RouteRule) -> Node:
    """Return an operation with its body, headers, security and problems."""
    parameters: list[Node] = operation.setdefault("parameters", [])
    for parameter in parameters:
        if parameter["name"] in ID_FORMS:
            parameter["schema"] = ID_FORMS[parameter["name"]]
    parameters += [_header(name) for name in _headers(rule)]
    if rule.body is not None:
        reference = {"$ref": REFERENCES.format(name=rule.body.__name__)}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": reference}},
        }
    operation["security"] = _security(rule)
    operation["x-millrace-scope"] = str(rule.scope)
    operation["x-millrace-rate-class"] = str(rule.rate_class)
    operation["x-millrace-body-bytes-max"] = rule.body_bytes_max
    responses: Node = operation["responses"]
    responses.pop("400", None)  # the framework's own form of an error
    form, media_type = (EvaluationFailure, OFREP_TYPE) if rule.ofrep else (Problem, MEDIA_TYPE)
    schema = {"$ref": REFERENCES.format(name=form.__name__)}
    for status in _problems(rule, parameters):
        responses[str(status)] = {
            "description": PROBLEMS[status],
            "content": {media_type: {"schema": schema}},
        }
    if rule.unsafe and rule.path in WAITING:
        responses["202"] = {
            "description": "The change waits.",
            "content": responses["200"]["content"],
        }
    if rule.path == EVALUATE or (rule.versioned and rule.method == "GET"):
        responses["304"] = {"description": "The client has the current version."}
    return operation


def _security(rule: RouteRule) -> list[Node]:
    """Return the proofs that a route takes, each by itself."""
    more = (["api_key"] if rule.ofrep else []) + (["admission"] if rule.admission else [])
    named: list[Node] = [{name: []} for name in more]
    return [*SECURITY.get(rule.scope, [{"bearer": []}]), *named]


SECURITY: dict[Scope, list[Node]] = {Scope.PUBLIC: [], Scope.LOCAL: [{"bearer": []}, {}]}
PROBLEMS = {
    400: "A parameter, a header or the body cannot be read.",
    401: "No token, or one that does not hold.",
    403: "The caller may not do this.",
    404: "There is no such thing, or the caller may not know of it.",
    408: "The body did not arrive in time.",
    409: "The thing is not in the state that the request expects.",
    412: "If-Match names another version.",
    413: "The body is too large.",
    414: "The address is too long.",
    415: "The body is of another type.",
    422: "A value is not allowed.",
    429: "Too many requests.",
    500: "A condition that was not foreseen.",
    503: "A part that is needed does not answer now.",
}


def _headers(rule: RouteRule) -> list[str]:
    found: list[str] = []
    if rule.unsafe:
        found.append("idempotency")
    elif not rule.anonymous and not rule.ofrep:
        found.append("token")
    if rule.path == EVALUATE:
        found.append("none_match")
    if rule.versioned:
        found.append("match" if rule.unsafe else "none_match")
    return found


def _header(name: str) -> Node:
    title, about, form = HEADER_PARAMETERS[name]
    return {
        "name": title,
        "in": "header",
        "required": False,
        "description": about,
        "schema": form,
    }


def _problems(rule: RouteRule, parameters: list[Node]) -> list[int]:
    """Return the statuses of the problems that a route can answer."""
    found = [400, 413, 414, 429, 500, 503]
    if not rule.anonymous:
        found += [401, 403]
    if "{" in rule.path or rule.unsafe:
        found.append(404)
    if rule.media is not Media.NONE:
        found += [408, 415]
    if rule.unsafe:
        found += [409, 422]
    elif parameters or rule.media is not Media.NONE:
        found.append(422)
    if rule.unsafe and rule.versioned:
        found.append(412)
    return sorted(set(found))
