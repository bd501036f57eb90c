"""One typed object, read once from millrace.toml and MILLRACE_* variables."""

from msgspec import Struct, field

from millrace.store.types import StoreConfig


class DoorConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the HTTP doors behave.

    demo: whether anybody may sign in as a member of the community by a click.
    public_url: the address in links; empty means the one that is listened on.
    cors_origins: origins whose pages may call the API; none by default.
    session_seconds: how long a sign-in lasts.
    rates: requests per minute and caller, by rate class.
    proxies: how many trusted proxies stand in front; decides which address a caller has.
    jwks_url, issuer, identity_community: an identity provider, and the external id of the
        community whose members its `sub` names.
    """

    host: str = "127.0.0.1"
    port: int = 8321
    public_url: str = ""
    demo: bool = False
    cors_origins: list[str] = []
    session_seconds: int = 12 * 3600
    rates: dict[str, int] = field(
        default_factory=lambda: {
            "public": 600, "read": 1200, "write": 300, "bulk": 120, "sign_in": 30,
        }  # fmt: skip
    )
    proxies: int = 0
    jwks_url: str = ""
    issuer: str = ""
    identity_community: str = ""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set, one part per room."""

    store: StoreConfig = StoreConfig()
    door: DoorConfig = DoorConfig()
