"""Goal: nobody reads or writes as somebody else, on any route. The matrix is made from the
inventory, so a new route is in it by itself.
"""

import json
from datetime import timedelta

import psycopg

from millrace.api.inventory import MEMBER, POST, Inventory, Media, RouteRule, Scope
from millrace.api.testing import Town, town
from millrace.community.docket import CaseQuery
from millrace.community.moves import Move, ReportReason, Thing, ThingKind
from millrace.community.testing import as_member
from millrace.community.types import Key, MemberDraft, program
from millrace.kernel.clock import ManualClock, SystemClock
from millrace.release.flags.types import Actor, Terms

ROLES = [
    "anonymous", "self", "another", "foreign", "moderator", "operator", "manager",
    "reader", "revoked", "expired", "forged", "removed", "banned",
]  # fmt: skip
BROKEN = {"revoked", "expired", "forged", "removed", "banned"}
RULES = sorted(Inventory(), key=lambda rule: (rule.path, rule.method))

# Who holds a scope, where the path's member is Ada. Everybody else is refused.
HOLDERS = {
    Scope.KNOWN: {"self", "another", "foreign", "moderator", "operator", "manager", "reader"},
    Scope.PERSON: {"self", "another", "foreign", "moderator", "operator", "manager"},
    Scope.MEMBER: {"self", "another", "foreign", "moderator", "operator"},
    Scope.AUTHOR: {"self", "another", "foreign", "moderator"},
    Scope.SELF: {"self", "operator"},
    Scope.OWN: {"self"},
    Scope.MODERATOR: {"moderator", "operator"},
    Scope.OPERATOR: {"operator"},
    Scope.RELEASE_MANAGER: {"manager", "operator"},
    Scope.FLAG_READER: {"reader", "manager", "operator"},
    Scope.LOCAL: {"operator"},
}
WHO = {"self": "ada", "another": "ben", "foreign": "cleo", "moderator": "mona"}
FORGED = "eyJhbGciOiJFZERTQSIsImtpZCI6Im5vbmUifQ.eyJzdWIiOiJvcGVyYXRvcjpvbGdhIn0.c2lnbmF0dXJl"


# Where the door lets somebody through, and the domain looks closer. Others get 403, or 404 where
# they may not even know of the thing.
CLOSER = {
    ("GET", "/v1/members"): {"self", "another", "moderator", "operator"},
    ("GET", "/communities/{community_id}/members"): {"self", "another", "moderator", "operator"},
    ("DELETE", "/v1/members/{member_id}"): {"self", "moderator", "operator"},
    ("PATCH", "/v1/posts/{post_id}"): {"self", "operator"},
    ("DELETE", "/v1/posts/{post_id}"): {"self", "moderator", "operator"},
    ("DELETE", "/v1/comments/{comment_id}"): {"self", "moderator", "operator"},
    ("DELETE", "/v1/tokens/{token_id}"): {"operator"},
    ("GET", "/posts/{post_id}/edit"): {"self"},
    ("POST", "/posts/{post_id}/edit"): {"self"},
}
# What Cleo of the hill may not see: Ada's posts are for the harbour.
UNSEEN_FROM_ELSEWHERE = {"/v1/posts/{post_id}", "/posts/{post_id}"}

FLAG = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
BODIES = {
    "PostNew": {"text": "good morning"},
    "PostPatch": {"text": "good evening"},
    "CommentNew": {"text": "indeed"},
    "ProfilePatch": {"headline": "boats and ropes"},
    "ImpressionBatch": {"items": []},
    "EngagementBatch": {"items": []},
    "TokenNew": {"member_id": "ADA"},
    "FlagUses": {"lines": [{"key": "unknown", "evaluations": 1}]},
    "OperatorNew": {"name": "NEW"},
    "ReportNew": {"thing_kind": "post", "thing_id": "POST", "reason": "spam"},
    "ActionNew": {
        "thing_kind": "post",
        "thing_id": "POST",
        "move": "warn",
        "reason": "for the test",
    },
    "EvaluationRequest": {},
    "FlagPut": {"definition": FLAG, "reason": "for the test"},
    "FlagLook": {"definition": FLAG},
    "FlagImport": {"document": {"flags": {"brought": FLAG}}, "reason": "for the test"},
    "FlagReason": {"reason": "for the test"},
    "FlagRamp": {"variant": "on", "percentage": 10, "reason": "for the test"},
    "FlagRevert": {"to_version": 1, "reason": "for the test"},
    "Decision": {"note": "for the test"},
    "EntryPut": {"reason": "for the test"},
    "RulePut": {"percentage": 1.5, "reason": "for the test"},
    "RingChoice": {"choice": "opted_in"},
    "ScanPut": {"scanned_at": "2026-11-01T00:00:00Z", "files": 1, "places": {}},
}
QUERIES = {
    "/v1/members": ("community_id",),
    "/v1/members/{member_id}/why": ("post_id",),
    "/v1/rings/{track}/explain": ("member_id",),
    "/v1/flags/{key}": ("reason",),
    "/v1/rings/{track}/{ring}/entries/{member_id}": ("reason",),
    "/v1/search": ("q",),
    "/v1/search/posts": ("q",),
    "/v1/search/members": ("q",),
    "/v1/search/communities": ("q",),
}
TABLES = (
    "community", "member", "post", "comment", "reaction", "follow", "block", "mute", "impression",
    "engagement", "report", "moderation_case", "moderation_action", "revoked_token",
    "operator_account", "signing_key", "idempotency_key", "flag", "flag_change", "flag_request",
    "ring_entry", "ring_change", "ring_rule", "flag_scan",
)  # fmt: skip


def scope_of(rule: RouteRule, role: str) -> set[int] | None:
    """Return the statuses that the door must give, or None where it lets the role through."""
    if rule.scope is Scope.PUBLIC:
        return None  # nobody is asked, and a page for everybody takes a stale token for none
    if role == "anonymous" or role in BROKEN:
        return {303} if rule.page else {401}
    return None if role in HOLDERS[rule.scope] else {403}


def digest(conninfo: str) -> dict[str, str]:
    """Return a fingerprint of every table that somebody's request could change."""
    with psycopg.connect(conninfo) as db:
        return {
            table: db.execute(
                f"select coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from {table} t"
            ).fetchone()[0]
            for table in TABLES
        }


class Knocker:
    """Sends a request of every route as anybody."""

    def __init__(self, place: Town, client, spare_token: str, case: Key, request: int) -> None:
        self._client = client
        self._params = {
            "member_id": str(place.members["ada"]),
            "target_id": str(place.members["cleo"]),
            "post_id": str(place.posts["ada"]),
            "comment_id": str(place.comment),
            "community_id": str(place.communities["harbour"]),
            "token_id": spare_token,
            "path": "app.css",
            "case_id": str(case),
            "thing_kind": "post",
            "thing_id": str(place.posts["ada"]),
            "q": "sea",
            "key": "shown",
            "track": "server",
            "ring": "beta",
            "request_id": str(request),
            "repository": "shop",
            "reason": "for the test",
        }
        self._count = 0

    async def knock(self, rule: RouteRule, headers: dict[str, str]):
        """Send a sound request."""
        params = {name: self._params[name] for name in QUERIES.get(rule.path, ())}
        headers = headers | {"origin": "http://127.0.0.1"}
        content = {}
        if rule.media is Media.JSON:
            content = {"json": self._body(rule)}
        elif rule.media is Media.FORM:
            content = {"data": {"text": "by a form"}}
        return await self._client.request(
            "HEAD" if rule.stream else rule.method,  # the stream itself does not end
            rule.path.format(**self._params),
            params=params,
            headers=headers,
            follow_redirects=False,
            **content,
        )

    def _body(self, rule: RouteRule):
        if rule.path.startswith("/v1/bulk/"):
            return {"items": []} | (
                {} if rule.path.endswith("communities") else {"community": "harbour"}
            )
        body = dict(BODIES[rule.body.__name__])
        self._count += 1
        return body | {
            name: value.replace("ADA", self._params["member_id"])
            .replace("NEW", f"o{self._count}")
            .replace("POST", self._params["post_id"])
            for name, value in body.items()
            if isinstance(value, str)
        }


async def proofs(place: Town, clock: ManualClock) -> dict[str, dict[str, str]]:
    """Return the headers of every role."""
    identity, ada = place.program.identity, f"member:{place.members['ada']}"
    found = {role: place.bearer(name) for role, name in WHO.items()}
    found |= {name: place.bearer(name) for name in ("operator", "manager", "reader")}
    revoked, short = await identity.issue(ada, 3600), await identity.issue(ada, 1)
    await identity.revoke(revoked.token_id, "program:test", "for the test")
    clock.move(60)
    drafts = [MemberDraft(external_id=name, display_name=name) for name in ("dora", "eve")]
    harbour = place.communities["harbour"]
    ids = (await place.program.members.upsert(program(), harbour, drafts)).ids
    gone = Key(harbour, ids["dora"])
    removed = await identity.issue(f"member:{gone}", 3600)
    await place.program.members.remove(program(), gone, "for the test")
    shut_out = Thing(ThingKind.MEMBER, Key(harbour, ids["eve"]))
    banned = await identity.issue(f"member:{shut_out.key}", 3600)
    await place.program.moderation.decide(program(), shut_out, Move.BAN, "for the test")
    broken = {
        "revoked": revoked.token, "expired": short.token,
        "removed": removed.token, "forged": FORGED,
        "banned": banned.token,
    }  # fmt: skip
    found |= {role: {"authorization": f"Bearer {token}"} for role, token in broken.items()}
    return found | {"anonymous": {}}


async def reported(place: Town) -> Key:
    """Let Ben report Ada's comment, and return the case."""
    moderation, comment = place.program.moderation, Thing(ThingKind.COMMENT, place.comment)
    await moderation.report(as_member(place.members["ben"]), comment, ReportReason.SPAM)
    return (await moderation.cases(program(), CaseQuery()))[0].key


async def flagged(place: Town) -> int:
    """Write a flag, let a change of it wait, and return the request."""
    flags, actor, text = place.program.flags, Actor("operator:test"), json.dumps(FLAG)
    await flags.put("shown", text, version=0, actor=actor, reason="for the test")
    later = Terms(due_at=place.program.clock.now() + timedelta(days=1))
    other = text.replace('"off"}', '"on"}')
    made = await flags.put("shown", other, version=1, actor=actor, reason="later", terms=later)
    return made.id


async def test_matrix(conninfo, tmp_path):
    """Every route refuses everybody whom its scope leaves out, and lets the others through."""
    clock = ManualClock(SystemClock().now())
    async with town(conninfo, str(tmp_path), clock=clock) as place, place.client() as client:
        headers = await proofs(place, clock)
        spare = await place.program.identity.issue(f"member:{place.members['ada']}", 3600)
        knocker = Knocker(
            place, client, spare.token_id, await reported(place), await flagged(place)
        )
        before, wrong = digest(conninfo), []
        for rule, role in [(rule, role) for rule in RULES for role in ROLES]:
            refused = scope_of(rule, role)
            if refused is not None:
                got = await knocker.knock(rule, headers[role])
                if got.status_code not in refused:
                    wrong.append((rule.method, rule.path, role, got.status_code, refused))

        assert not wrong, "\n".join(map(str, wrong))
        assert digest(conninfo) == before, "a refused request changed something"

        for rule, role in sorted(
            ((rule, role) for rule in RULES for role in ROLES if scope_of(rule, role) is None),
            key=lambda pair: (pair[0].method == "DELETE", pair[0].path == MEMBER),
        ):
            got = (await knocker.knock(rule, headers[role])).status_code
            if not as_it_should(rule, role, got):
                wrong.append((rule.method, rule.path, role, got))
        assert not wrong, "\n".join(map(str, wrong))


def test_a_flag_reader_reads_flags_and_nothing_else():
    """What a server's token opens: the snapshot, its stream, evaluations, and itself."""
    opened = {
        (rule.method, rule.path)
        for rule in RULES
        if rule.scope is not Scope.PUBLIC and "reader" in HOLDERS[rule.scope]
    }

    assert opened == {
        ("GET", "/v1/flag-snapshot"),
        ("POST", "/v1/flag-usage"),  # how often it decided, which OFREP's routes count themselves
        ("GET", "/ofrep/v1/events"),
        ("POST", "/ofrep/v1/evaluate/flags"),
        ("POST", "/ofrep/v1/evaluate/flags/{key}"),
        ("GET", "/v1/me"),
        ("DELETE", "/v1/tokens/{token_id}"),  # its own
    }


def as_it_should(rule: RouteRule, role: str, status: int) -> bool:
    """Whether somebody whom the door let through got an answer that fits."""
    if role == "foreign" and (rule.path.startswith(POST) or rule.path in UNSEEN_FROM_ELSEWHERE):
        return status in {403, 404}
    closer = CLOSER.get((rule.method, rule.path))
    if closer is not None and role not in closer:
        return status in {403, 404}
    return status < 500 and status not in {401, 403}
