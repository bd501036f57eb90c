"""Every route of the program, in one table: who may call it, how often, and with how much.

`create_app` refuses to build when a route has no row here, or a row no route. The gate reads the
row before any handler runs, so a handler cannot forget a rule; the authorisation test walks the
same table.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec import Struct, structs

from millrace.api import bodies, bodies_flags
from millrace.api.evaluations import BODY_BYTES_MAX
from millrace.api.wire_ofrep import EvaluationRequest
from millrace.kernel.errors import SetupError


class Scope(StrEnum):
    """Who may call a route.

    PUBLIC: anybody. KNOWN: anybody with a valid token, of whatever role.
    PERSON: all of these but a flag reader, which is a program.
    MEMBER: a member, a moderator or an operator.
    AUTHOR: a member or a moderator, since what they do is done as themself.
    SELF: the member whom `{member_id}` in the path names, or an operator.
    OWN: that member and nobody else: an operator does not follow or block for somebody.
    MODERATOR: a moderator or an operator. OPERATOR: an operator.
    RELEASE_MANAGER: a release manager or an operator.
    FLAG_READER: these two, or a server that decides by flags.
    LOCAL: an operator, or any program on the same machine that connects directly.
    """

    PUBLIC = "public"
    KNOWN = "known"
    PERSON = "person"
    MEMBER = "member"
    AUTHOR = "author"
    SELF = "self"
    OWN = "own"
    MODERATOR = "moderator"
    OPERATOR = "operator"
    RELEASE_MANAGER = "release_manager"
    FLAG_READER = "flag_reader"
    LOCAL = "local"


class RateClass(StrEnum):
    """What kind of work a route is; `door.rates` sets the requests per minute of each."""

    PUBLIC = "public"
    READ = "read"
    WRITE = "write"
    BULK = "bulk"
    SIGN_IN = "sign_in"
    EVALUATE = "evaluate"
    CHOOSE = "choose"


class Media(StrEnum):
    """What kind of body a route reads."""

    NONE = "none"
    JSON = "json"
    FORM = "form"


OFREP = "/ofrep/"


class RouteRule(Struct, frozen=True, kw_only=True):
    """What holds for one method of one path.

    body: the Struct that the body is read as; only for JSON.
    page: made for a browser: who is not signed in is sent to the sign-in page.
    anonymous: nobody is asked who they are, so the route answers without the database.
    versioned: a read answers an ETag, a write takes If-Match.
    reading: a POST that only asks: it changes nothing, has no idempotency key and no token.
    admission: an admission in the query stands for a token.
    stream: the answer goes on until the caller has enough; its time says nothing.
    status: the status of success.
    """

    method: str
    path: str
    scope: Scope
    rate_class: RateClass
    body_bytes_max: int = 0
    media: Media = Media.NONE
    body: type[Struct] | None = None
    page: bool = False
    anonymous: bool = False
    versioned: bool = False
    reading: bool = False
    admission: bool = False
    stream: bool = False
    status: int = 200

    @property
    def unsafe(self) -> bool:
        """Whether the route changes something."""
        return self.method not in {"GET", "HEAD", "OPTIONS"} and not self.reading

    @property
    def ofrep(self) -> bool:
        """Whether the route speaks OFREP, in its refusals too."""
        return self.path.startswith(OFREP)


KIB = 1024
SMALL_BYTES = 512 * KIB  # the longest text, 40,000 characters, with every character escaped
BATCH_BYTES = 1024 * KIB
BULK_BYTES = 32 * 1024 * KIB


def _read(path: str, scope: Scope = Scope.MEMBER, *, versioned: bool = False) -> RouteRule:
    return RouteRule(
        method="GET", path=path, scope=scope, rate_class=RateClass.READ, versioned=versioned
    )


def _public(path: str) -> RouteRule:
    return RouteRule(
        method="GET",
        path=path,
        scope=Scope.PUBLIC,
        rate_class=RateClass.PUBLIC,
        anonymous=True,
    )


def _write(
    method: str,
    path: str,
    scope: Scope = Scope.MEMBER,
    body: type[Struct] | None = None,
    *,
    versioned: bool = False,
) -> RouteRule:
    return RouteRule(
        method=method,
        path=path,
        scope=scope,
        rate_class=RateClass.WRITE,
        body_bytes_max=0 if body is None else SMALL_BYTES,
        media=Media.NONE if body is None else Media.JSON,
        body=body,
        versioned=versioned,
        status={"POST": 201, "DELETE": 204, "PUT": 204}.get(method, 200),
    )


def _batch(
    path: str, body: type[Struct], scope: Scope, bytes_max: int, rate_class: RateClass
) -> RouteRule:
    return RouteRule(
        method="POST",
        path=path,
        scope=scope,
        rate_class=rate_class,
        body_bytes_max=bytes_max,
        media=Media.JSON,
        body=body,
    )


def _page(path: str, scope: Scope, rate_class: RateClass = RateClass.READ) -> RouteRule:
    return RouteRule(method="GET", path=path, scope=scope, rate_class=rate_class, page=True)


def _form(path: str, scope: Scope, rate_class: RateClass = RateClass.WRITE) -> RouteRule:
    return RouteRule(
        method="POST",
        path=path,
        scope=scope,
        rate_class=rate_class,
        body_bytes_max=SMALL_BYTES,
        media=Media.FORM,
        page=True,
        status=303,
    )


MEMBER = "/v1/members/{member_id}"
POST = "/v1/posts/{post_id}"

ABOUT = [
    _read("/v1/me", Scope.KNOWN),
    _read("/v1/communities"),
    _read("/v1/communities/{community_id}"),
    _read("/v1/communities/{community_id}/page"),
]

MEMBERS = [
    _read("/v1/members"),
    _read(MEMBER, versioned=True),
    _write("PATCH", MEMBER, Scope.SELF, bodies.ProfilePatch, versioned=True),
    _write("DELETE", MEMBER, versioned=True),
    _read(f"{MEMBER}/feed", Scope.SELF),
    _read(f"{MEMBER}/why", Scope.SELF),
    RouteRule(
        method="GET",
        path=f"{MEMBER}/events",
        scope=Scope.SELF,
        rate_class=RateClass.READ,
        stream=True,
    ),
    *(_read(f"{MEMBER}/{kind}") for kind in ("follows", "followers")),
    *(_read(f"{MEMBER}/{kind}", Scope.OWN) for kind in ("blocks", "mutes", "notices")),
    *(
        _write(method, f"{MEMBER}/{kind}/{{target_id}}", Scope.OWN)
        for kind in ("follows", "blocks", "mutes")
        for method in ("PUT", "DELETE")
    ),
]

POSTS = [
    _write("POST", "/v1/posts", Scope.AUTHOR, bodies.PostNew),
    _read("/v1/posts"),
    _read(POST, versioned=True),
    _write("PATCH", POST, body=bodies.PostPatch, versioned=True),
    _write("DELETE", POST, versioned=True),
    _read(f"{POST}/comments"),
    _write("POST", f"{POST}/comments", Scope.AUTHOR, bodies.CommentNew),
    _write("DELETE", "/v1/comments/{comment_id}"),
    _write("PUT", f"{POST}/reactions/like", Scope.AUTHOR),
    _write("DELETE", f"{POST}/reactions/like", Scope.AUTHOR),
]

BATCHES = [
    _batch(f"/v1/{kind}", body, Scope.MEMBER, BATCH_BYTES, RateClass.WRITE)
    for kind, body in (
        ("impressions", bodies.ImpressionBatch),
        ("engagements", bodies.EngagementBatch),
    )
] + [
    _batch(f"/v1/bulk/{kind}", body, Scope.OPERATOR, BULK_BYTES, RateClass.BULK)
    for kind, body in bodies.BULK_BODIES.items()
]

MODERATION = [
    _write("POST", "/v1/reports", Scope.AUTHOR, bodies.ReportNew),
    _read("/v1/moderation/cases", Scope.MODERATOR),
    _read("/v1/moderation/cases/{case_id}", Scope.MODERATOR, versioned=True),
    _read("/v1/moderation/cases/{case_id}/reports", Scope.MODERATOR),
    _read("/v1/moderation/actions", Scope.MODERATOR),
    _write("POST", "/v1/moderation/actions", Scope.MODERATOR, bodies.ActionNew),
    _read("/v1/moderation/things/{thing_kind}/{thing_id}", Scope.MODERATOR),
]

SEARCH = [
    _read("/v1/search"),
    *(_read(f"/v1/search/{kind}") for kind in ("posts", "members", "communities")),
]

EVALUATE = "/ofrep/v1/evaluate/flags"

EVALUATIONS = [
    *(
        RouteRule(
            method="POST",
            path=path,
            scope=Scope.KNOWN,
            rate_class=RateClass.EVALUATE,
            body_bytes_max=BODY_BYTES_MAX,
            media=Media.JSON,
            body=EvaluationRequest,
            reading=True,
        )
        for path in (EVALUATE, EVALUATE + "/{key}")
    ),
    RouteRule(
        method="GET",
        path="/ofrep/v1/events",
        scope=Scope.KNOWN,
        rate_class=RateClass.READ,
        admission=True,
        stream=True,
    ),
]

FLAG = "/v1/flags/{key}"
RING = "/v1/rings/{track}/{ring}"
IMPORT_BYTES = 8 * 1024 * KIB


def _flag_write(
    method: str, path: str, body: type[Struct] | None, *, versioned: bool = False
) -> RouteRule:
    return structs.replace(
        _write(method, path, Scope.RELEASE_MANAGER, body, versioned=versioned), status=200
    )


def _flag_look(path: str) -> RouteRule:
    """A definition to look at: it is sent, and nothing is written."""
    looked = _write("POST", path, Scope.RELEASE_MANAGER, bodies_flags.FlagLook)
    return structs.replace(looked, status=200, reading=True, rate_class=RateClass.READ)


WAITING = frozenset({FLAG, *(f"{FLAG}/{kind}" for kind in ("revive", "ramp", "revert"))})
"""Where a change may wait for a second pair of eyes; the answer to a change is then 202."""

FLAGS = [
    _read("/v1/flags", Scope.RELEASE_MANAGER),
    _read("/v1/flag-document", Scope.RELEASE_MANAGER, versioned=True),
    structs.replace(
        _flag_write("POST", "/v1/flag-document", bodies_flags.FlagImport),
        body_bytes_max=IMPORT_BYTES,
        rate_class=RateClass.BULK,
    ),
    _read(FLAG, Scope.RELEASE_MANAGER, versioned=True),
    _flag_write("PUT", FLAG, bodies_flags.FlagPut, versioned=True),
    _flag_write("DELETE", FLAG, None, versioned=True),
    *(_read(f"{FLAG}/{kind}", Scope.RELEASE_MANAGER) for kind in ("history", "usage", "audience")),
    *(_flag_look(f"{FLAG}/{kind}") for kind in ("preview", "check")),
    _flag_write("POST", f"{FLAG}/kill", bodies_flags.FlagReason),
    _flag_write("POST", f"{FLAG}/revive", bodies_flags.FlagReason, versioned=True),
    _flag_write("POST", f"{FLAG}/ramp", bodies_flags.FlagRamp, versioned=True),
    _flag_write("POST", f"{FLAG}/revert", bodies_flags.FlagRevert, versioned=True),
    _read("/v1/flag-requests", Scope.RELEASE_MANAGER),
    _read("/v1/flag-requests/{request_id}", Scope.RELEASE_MANAGER),
    *(
        _flag_write("POST", f"/v1/flag-requests/{{request_id}}/{kind}", bodies_flags.Decision)
        for kind in ("approve", "reject", "cancel")
    ),
]

RINGS = [
    _read("/v1/rings/{track}", Scope.RELEASE_MANAGER),
    _read("/v1/rings/{track}/explain", Scope.RELEASE_MANAGER),
    *(_read(f"{RING}/{kind}", Scope.RELEASE_MANAGER) for kind in ("entries", "members")),
    _flag_write("PUT", f"{RING}/entries/{{member_id}}", bodies_flags.EntryPut),
    _write("DELETE", f"{RING}/entries/{{member_id}}", Scope.RELEASE_MANAGER),
    _flag_write("PUT", f"{RING}/rule", bodies_flags.RulePut, versioned=True),
    _read(f"{MEMBER}/rings", Scope.SELF),
    structs.replace(
        _write("PUT", f"{MEMBER}/rings/{{track}}/{{ring}}", Scope.OWN, bodies_flags.RingChoice),
        status=200,
        rate_class=RateClass.CHOOSE,  # each is a line of a trail that stays
    ),
    structs.replace(
        _write("DELETE", f"{MEMBER}/rings/{{track}}/{{ring}}", Scope.OWN),
        rate_class=RateClass.CHOOSE,
    ),
]

SCAN = "/v1/flag-scans/{repository}"

SCANS = [
    _read("/v1/flag-findings", Scope.RELEASE_MANAGER),
    _read("/v1/flag-scans", Scope.RELEASE_MANAGER),
    structs.replace(
        _flag_write("PUT", SCAN, bodies_flags.ScanPut),
        body_bytes_max=IMPORT_BYTES,
        rate_class=RateClass.BULK,
    ),
    _write("DELETE", SCAN, Scope.RELEASE_MANAGER),
]

OUTCOMES = [_read("/v1/flags/{key}/outcomes", Scope.RELEASE_MANAGER)]

IN_PROCESS = [
    _read("/v1/flag-snapshot", Scope.FLAG_READER, versioned=True),
    RouteRule(
        method="POST",
        path="/v1/flag-usage",
        scope=Scope.FLAG_READER,
        rate_class=RateClass.WRITE,
        body_bytes_max=BATCH_BYTES,
        media=Media.JSON,
        body=bodies.FlagUses,
        status=204,
    ),
]

TOKENS = [
    RouteRule(
        method="POST",
        path="/v1/tokens",
        scope=Scope.OPERATOR,
        rate_class=RateClass.SIGN_IN,
        body_bytes_max=SMALL_BYTES,
        media=Media.JSON,
        body=bodies.TokenNew,
        status=201,
    ),
    _write("DELETE", "/v1/tokens/{token_id}", Scope.KNOWN),
    _write("POST", "/v1/keys/rotate", Scope.OPERATOR),
    _write("POST", "/v1/operators", Scope.OPERATOR, bodies.OperatorNew),
    _public("/.well-known/jwks.json"),
]

ABOUT_THE_SERVER = [
    _public("/health/live"),
    _public("/health/ready"),
    RouteRule(method="GET", path="/metrics", scope=Scope.LOCAL, rate_class=RateClass.PUBLIC),
    _public("/openapi.json"),
]

PAGES = [
    _page("/", Scope.PERSON),  # a release manager, who has no feed, is sent to the flags
    _page("/sign-in", Scope.PUBLIC, RateClass.PUBLIC),
    _form("/sign-in", Scope.PUBLIC, RateClass.SIGN_IN),
    _form("/sign-out", Scope.PUBLIC),
    _page("/compose", Scope.AUTHOR),
    _form("/compose", Scope.AUTHOR),
    _page("/posts/{post_id}", Scope.MEMBER),
    _page("/posts/{post_id}/thread", Scope.MEMBER),
    _page("/posts/{post_id}/edit", Scope.AUTHOR),
    _form("/posts/{post_id}/edit", Scope.AUTHOR),
    _form("/posts/{post_id}/remove", Scope.MEMBER),
    _form("/posts/{post_id}/comments", Scope.AUTHOR),
    _form("/posts/{post_id}/comments/{comment_id}/remove", Scope.MEMBER),
    _page("/why/{post_id}", Scope.MEMBER),
    _page("/feed/more", Scope.MEMBER),
    _page("/feed/newer", Scope.AUTHOR),
    _page("/members/{member_id}", Scope.MEMBER),
    _page("/profile", Scope.AUTHOR),
    _form("/profile", Scope.AUTHOR),
    _page("/communities", Scope.MEMBER),
    _page("/communities/{community_id}", Scope.MEMBER),
    _page("/communities/{community_id}/members", Scope.MEMBER),
    _page("/search", Scope.MEMBER),
    _page("/report/{thing_kind}/{thing_id}", Scope.AUTHOR),
    _form("/report/{thing_kind}/{thing_id}", Scope.AUTHOR),
    _page("/notices", Scope.AUTHOR),
    _page("/moderation", Scope.MODERATOR),
    _page("/moderation/trail", Scope.MODERATOR),
    _page("/moderation/cases/{case_id}", Scope.MODERATOR),
    _page("/moderation/{thing_kind}/{thing_id}", Scope.MODERATOR),
    _form("/moderation/{thing_kind}/{thing_id}", Scope.MODERATOR),
    _page("/operator", Scope.OPERATOR),
    _page("/profile/early", Scope.AUTHOR),
    _form("/profile/early", Scope.AUTHOR, RateClass.CHOOSE),
    _page("/flags", Scope.RELEASE_MANAGER),
    _page("/flag-new", Scope.RELEASE_MANAGER),
    _form("/flag-new", Scope.RELEASE_MANAGER),
    _page("/flags/{key}", Scope.RELEASE_MANAGER),
    _page("/flags/{key}/edit", Scope.RELEASE_MANAGER),
    *(
        _form(f"/flags/{{key}}/{verb}", Scope.RELEASE_MANAGER)
        for verb in ("edit", "kill", "revive", "ramp", "revert", "remove")
    ),
    _page("/flag-requests", Scope.RELEASE_MANAGER),
    _form("/flag-requests/{request_id}", Scope.RELEASE_MANAGER),
    _page("/rings", Scope.RELEASE_MANAGER),
    _form("/rings/{track}/{ring}", Scope.RELEASE_MANAGER),
    _public("/static/{path}"),
]

ROUTES: tuple[RouteRule, ...] = (
    *ABOUT, *MEMBERS, *POSTS, *MODERATION, *SEARCH, *EVALUATIONS, *FLAGS, *SCANS, *OUTCOMES, *IN_PROCESS, *RINGS, *BATCHES,
    *TOKENS, *ABOUT_THE_SERVER, *PAGES,
)  # fmt: skip


class Inventory:
    """The table, by method and path."""

    def __init__(self, rules: Iterable[RouteRule] = ROUTES) -> None:
        self._rules: dict[tuple[str, str], RouteRule] = {}
        for rule in rules:
            place = (rule.method, rule.path)
            if place in self._rules:
                raise SetupError(
                    f"{rule.method} {rule.path} has two rows in the inventory",
                    next_step="remove one in api/inventory.py",
                )
            self._rules[place] = rule

    def rule(self, method: str, path: str) -> RouteRule:
        """Return the row of a route that the application has; `check` made sure of it."""
        return self._rules[method, path]

    def methods(self, path: str) -> list[str]:
        """Return the methods that a path has, sorted."""
        found = {method for method, held in self._rules if held == path}
        return sorted(found | {"HEAD"} if "GET" in found else found)

    def __iter__(self) -> Iterator[RouteRule]:
        """Walk the rows."""
        return iter(self._rules.values())

    def check(self, routes: Iterable[tuple[str, str]]) -> None:
        """Compare the table with the routes that were built.

        Raises:
            SetupError: a route has no row, or a row has no route; names them all.
        """
        built, declared = set(routes), set(self._rules)
        undeclared, unbuilt = sorted(built - declared), sorted(declared - built)
        if undeclared or unbuilt:
            raise SetupError(
                f"routes and inventory disagree: without a row {undeclared}, "
                f"without a route {unbuilt}",
                limit="one row per route",
                next_step="declare scope, rate class and body limit in api/inventory.py",
            )
