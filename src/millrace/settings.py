"""One typed object, read once from millrace.toml and MILLRACE_* variables.

A variable is named MILLRACE_<ROOM>_<FIELD> and wins over the file, the file over the defaults.
An unknown name is an error that says the nearest known one: a misspelt setting that is silently
ignored is the worst of all.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, cast, get_origin

import msgspec
from msgspec import Struct, field
from msgspec.structs import fields, replace

from millrace.feed.types import FeedConfig
from millrace.kernel.errors import SetupError
from millrace.release.flags.types import FlagConfig
from millrace.store.types import StoreConfig

FILE_NAME = "millrace.toml"
PREFIX = "MILLRACE_"
FILE_VARIABLE = "MILLRACE_SETTINGS"
TOKEN_VARIABLE = f"{PREFIX}TOKEN"
"""Who sits at a command line, proven; no setting."""
DEFAULT = "default"
SECRET_NAMES = ("secret", "password", "token", "primary")
MASK = "(set)"
RATES = {
    "public": 600, "read": 1200, "write": 300, "bulk": 120, "sign_in": 30, "evaluate": 60_000,
    "choose": 10,
}  # fmt: skip


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
    rates: dict[str, int] = field(default_factory=lambda: dict(RATES))
    proxies: int = 0
    jwks_url: str = ""
    issuer: str = ""
    identity_community: str = ""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set, one part per room.

    secret: signs consistency tokens and cursors; empty means the file in the data directory.
    """

    secret: str = ""
    store: StoreConfig = StoreConfig()
    feed: FeedConfig = FeedConfig()
    door: DoorConfig = DoorConfig()
    flags: FlagConfig = FlagConfig()


class Loaded(Struct, frozen=True):
    """The settings, and for each dotted name where its value comes from."""

    settings: Settings
    origins: dict[str, str]


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Return the settings of the file, of the variables, and of the defaults for the rest.

    A mistake is a SetupError that names the file or variable, as in `read`.
    """
    return read(path, environ).settings


def read(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Return the settings with their origins; `path` None means millrace.toml if it is there.

    Raises:
        SetupError: a file that cannot be read, an unknown name or a wrong value; names the place.
    """
    file = _file(path, environ)
    types = dict(_leaves(Settings))
    given: dict[str, tuple[object, str]] = {}
    if file is not None:
        for name, value in _flat(_parsed(file), types):
            given[name] = (_checked(value, types, name, str(file)), str(file))
    for variable, name in _variables(environ, types).items():
        value = _from_text(environ[variable], types[name])
        given[name] = (_checked(value, types, name, variable, strict=False), variable)
    tree: dict[str, Any] = {}
    for name, (value, _) in given.items():
        room, _, leaf = name.rpartition(".")
        (tree.setdefault(room, {}) if room else tree)[leaf] = value
    try:
        made = msgspec.convert(tree, Settings)
    except msgspec.ValidationError as exc:  # a rule of one room over several of its fields
        raise SetupError(f"the settings do not fit together: {exc}", next_step=_LOOK) from exc
    return Loaded(made, {name: given[name][1] if name in given else DEFAULT for name in types})


def overlaid(loaded: Loaded, options: Mapping[str, object]) -> Loaded:
    """Return the settings with options of the command line, by dotted name, over them.

    A wrong value is a SetupError that names the option.
    """
    types = dict(_leaves(Settings))
    settings, origins = loaded.settings, dict(loaded.origins)
    for name, value in options.items():
        room, _, leaf = name.rpartition(".")
        option = f"--{leaf.replace('_', '-')}"
        changed = {leaf: _checked(value, types, name, option)}
        if room:
            changed = {room: replace(getattr(settings, room), **changed)}
        settings = replace(settings, **changed)
        origins[name] = option
    return Loaded(settings, origins)


def listed(loaded: Loaded) -> list[tuple[str, object, str]]:
    """Return (name, value, origin) of every setting, secrets masked, in the order of the file."""
    plain = cast("dict[str, Any]", msgspec.to_builtins(loaded.settings))
    lines: list[tuple[str, object, str]] = []
    for name, origin in loaded.origins.items():
        room, _, leaf = name.rpartition(".")
        value: object = plain[room][leaf] if room else plain[leaf]
        hidden = value and leaf in SECRET_NAMES
        lines.append((name, MASK if hidden else value, origin))
    return lines


_LOOK = "`millrace settings` lists every name with its value"


def _file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = path or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
    if named is not None:
        return named
    return Path(FILE_NAME) if Path(FILE_NAME).is_file() else None


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(
            f"the settings file {file} cannot be read: {exc}",
            next_step=f"name another with --settings or {FILE_VARIABLE}",
        ) from exc
    except tomllib.TOMLDecodeError as exc:
        raise SetupError(
            f"{file} is not TOML: {exc}", next_step="mend that line; text needs quotes"
        ) from exc


def _leaves(struct: type[Struct]) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, type) of every setting: rooms are one level deep."""
    for part in fields(struct):
        wanted: Any = part.type
        if isinstance(wanted, type) and issubclass(wanted, Struct):
            yield from ((f"{part.name}.{inner.name}", inner.type) for inner in fields(wanted))
        else:
            yield part.name, wanted


def _flat(tree: dict[str, Any], types: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    rooms = {name.split(".")[0] for name in types if "." in name}
    for name, value in tree.items():
        if name in rooms and isinstance(value, dict):
            for leaf, inner in cast("dict[str, object]", value).items():
                yield f"{name}.{leaf}", inner
        else:
            yield name, value


def _variables(environ: Mapping[str, str], types: Mapping[str, Any]) -> dict[str, str]:
    """Return variable -> dotted name for those that are set."""
    known = {PREFIX + name.replace(".", "_").upper(): name for name in types}
    found: dict[str, str] = {}
    for variable in sorted(environ):
        if variable in known:
            found[variable] = known[variable]
        elif variable.startswith(PREFIX) and not _is_foreign(variable, environ[variable]):
            _refuse(variable, list(known), "the environment")
    return found


def _is_foreign(variable: str, value: str) -> bool:
    """Tell whether somebody else made this variable.

    Kubernetes describes a service called "millrace" by MILLRACE_SERVICE_* and MILLRACE_PORT*.
    """
    return (
        variable in (FILE_VARIABLE, TOKEN_VARIABLE)
        or variable.startswith((f"{PREFIX}SERVICE_", f"{PREFIX}PORT_", f"{PREFIX}TEST_"))
        or (variable == f"{PREFIX}PORT" and value.startswith(("tcp://", "udp://")))
    )


def _from_text(text: str, wanted: Any) -> object:
    """Read a variable: text as it stands, numbers and booleans as usual, the rest as JSON.

    A list may also be written with commas.
    """
    if wanted is str:
        return text
    if wanted is bool and text.lower() in {"yes", "on", "no", "off"}:
        return text.lower() in {"yes", "on"}
    if get_origin(wanted) in {list, tuple} and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if text.lstrip().startswith(("{", "[")):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    return text


def _checked(
    value: object, types: Mapping[str, Any], name: str, origin: str, *, strict: bool = True
) -> object:
    """Return the value in its own type.

    Raises:
        SetupError: the value has another type; names it and the origin.
    """
    if name not in types:
        _refuse(name, list(types), origin)
    try:
        return msgspec.convert(value, types[name], strict=strict)
    except msgspec.ValidationError as exc:
        raise SetupError(
            f"{origin}: {name} is {value!r}: {exc}", field=name, value=value, next_step=_LOOK
        ) from exc


def _refuse(name: str, known: list[str], origin: str) -> NoReturn:
    """Say that there is no such setting, and which one is nearest.

    Raises:
        SetupError: always.
    """
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    raise SetupError(
        f"{origin} has a setting {name!r} that does not exist",
        field=name,
        next_step=f"did you mean {near[0]}? {_LOOK}",
    )
