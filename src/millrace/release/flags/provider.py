"""A provider for OpenFeature's Python SDK that decides in process, as the server would.

    from openfeature import api
    from millrace.release.flags.provider import MillraceProvider

    api.set_provider(MillraceProvider("https://flags.example.org", token))

An evaluation is a look into memory; a change comes by itself. The token is that of a release
manager, because what decides also says who is in which ring: it belongs in a server, not in an app
that somebody else runs.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from enum import Enum
from threading import Event, Lock
from typing import Any, TypeVar, cast

from millrace.kernel.clock import Clock, SystemClock
from millrace.kernel.errors import SetupError
from millrace.kernel.rng import Rng, rng
from millrace.release.flags import contexts, snapshot
from millrace.release.flags.follower import Follower, Server
from millrace.release.flags.snapshot import Known
from millrace.release.flags.types import ABSENT, TARGETING_KEY, FlagType

try:
    from openfeature.evaluation_context import (  # pyright: ignore[reportMissingTypeStubs]
        EvaluationContext,
    )
    from openfeature.event import ProviderEventDetails
    from openfeature.exception import ErrorCode, ProviderFatalError, ProviderNotReadyError
    from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
    from openfeature.provider import (  # pyright: ignore[reportMissingTypeStubs]
        AbstractProvider,
        Metadata,
    )
except ImportError as error:
    raise SetupError(
        "the provider needs openfeature-sdk, which is not installed",
        next_step="pip install '/path/to/a/checkout[openfeature]', or openfeature-sdk itself",
    ) from error

T = TypeVar("T")
Objects = Sequence[FlagValueType] | Mapping[str, FlagValueType]

START_SECONDS = 10.0
STOP_SECONDS = 5.0


class MillraceProvider(AbstractProvider):
    """Decides by what it knows of a server, and follows that server's changes.

    Ready once it knows; stale while the server cannot be asked, and deciding all the same; in error
    while its token is refused. Threads may share it. A process that forks makes one afterwards.
    """

    def __init__(
        self,
        address: str,
        token: str | Callable[[], str],
        *,
        start_seconds: float = START_SECONDS,
        clock: Clock | None = None,
        chance: Rng | None = None,
    ) -> None:
        """Make a provider that has not started yet.

        Args:
            address: where the server is, as `https://flags.example.org`.
            token: of a flag reader (`millrace operator create NAME --role flag_reader`); or what
                gives one, which is asked before each request.
            start_seconds: so long the SDK waits for the first answer before it says that there is
                an error; the provider goes on trying and says when it is ready.
            clock: by which ramps and times of rules go.
            chance: spreads those who come back to a server over some time.
        """
        super().__init__()
        self._start_seconds = start_seconds
        self._clock = clock or SystemClock()
        self._known = snapshot.NOTHING
        self._voice = _Voice(self)
        self._uses = _Uses()
        given = token if callable(token) else lambda: token
        self._follower = Follower(
            Server(address=address, token=given),
            self._voice,
            chance or rng(id(self)),
            self._uses.taken,
        )

    @property
    def etag(self) -> str:
        """Return the name of what it decides by, as the server has it; empty before it knows."""
        return self._known.etag

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return Metadata(name="millrace")

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Start, and wait for the first answer of the server.

        Raises:
            ProviderFatalError: the token is refused.
            ProviderNotReadyError: the server did not answer in time.
        """
        self._voice.begin()
        self._follower.start()
        health, said = self._voice.first(self._start_seconds)
        if health is _Health.REFUSED:
            raise ProviderFatalError(said)
        if health is not _Health.WELL:
            raise ProviderNotReadyError(said)

    def shutdown(self) -> None:
        """End the thread that follows; what was used is told once more."""
        self._follower.stop(STOP_SECONDS)

    def learn(self, known: Known) -> None:
        """Decide by this from now on."""
        self._known = known

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Return a flag that is true or false."""
        return self._resolved(FlagType.BOOLEAN, flag_key, default_value, evaluation_context)

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Return a flag that is text."""
        return self._resolved(FlagType.STRING, flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Return a flag that is a whole number."""
        return self._resolved(FlagType.INTEGER, flag_key, default_value, evaluation_context)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Return a flag that is a number."""
        return self._resolved(FlagType.FLOAT, flag_key, default_value, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Objects,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Objects]:
        """Return a flag that is a JSON object or list; it is the caller's own."""
        found = self._resolved(FlagType.OBJECT, flag_key, default_value, evaluation_context)
        return FlagResolutionDetails(
            value=deepcopy(found.value),
            error_code=found.error_code,
            error_message=found.error_message,
            reason=found.reason,
            variant=found.variant,
            flag_metadata=found.flag_metadata,
        )

    def _resolved(
        self, kind: FlagType, key: str, default: T, asked: EvaluationContext | None
    ) -> FlagResolutionDetails[T]:
        """Return what the flag gives.

        Raises:
            ProviderNotReadyError: nothing is known yet.
        """
        known = self._known
        if known is snapshot.NOTHING:
            raise ProviderNotReadyError("the server has not answered yet")
        context = contexts.enriched(_json(asked), known.rings, known.countries, trusted=True)
        found = known.flagset.resolve(key, kind, context, self._clock.now().timestamp())
        if found.error is not None:
            return FlagResolutionDetails(
                value=default,
                error_code=ErrorCode(found.error.value),
                error_message=found.message,
                reason=Reason.ERROR,
            )
        self._uses.add(key, found.variant)
        return FlagResolutionDetails(
            value=default if found.value is ABSENT else cast("T", found.value),
            reason=Reason(found.reason.value),
            variant=found.variant or None,
            flag_metadata=dict(found.metadata),
        )


class _Uses:
    """How often each variant was given since the server was last told."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, key: str, variant: str) -> None:
        with self._lock:  # requests come in many threads
            self._counts[key, variant] = self._counts.get((key, variant), 0) + 1

    def taken(self) -> Mapping[tuple[str, str], int]:
        with self._lock:
            counts, self._counts = self._counts, {}
        return counts


class _Health(Enum):
    """How it goes: what the SDK calls the provider's status."""

    NEW = "new"
    WELL = "well"
    STALE = "stale"
    REFUSED = "refused"


class _Voice:
    """Tells the SDK how it goes, each turn once. Called from the follower's thread."""

    def __init__(self, provider: MillraceProvider) -> None:
        self._provider = provider
        self._answered = Event()
        self._lock = Lock()
        self._waited_for = True
        self._health = _Health.NEW
        self._said = ""

    def begin(self) -> None:
        """Let the SDK tell how the start goes."""
        self._answered.clear()
        self._waited_for = True
        self._health = _Health.NEW

    def first(self, seconds: float) -> tuple[_Health, str]:
        """Wait until something is known; return how it goes, and what is wrong."""
        self._answered.wait(seconds)
        with self._lock:
            self._waited_for = False  # from now on it is told by events
            return self._health, self._said or f"no answer in {seconds:g} s"

    def current(self, before: Known, after: Known) -> None:
        """Hear that all is known as of now."""
        self._provider.learn(after)
        if self._turned(_Health.WELL, ""):
            self._provider.emit_provider_ready(ProviderEventDetails())
        self._answered.set()
        if before is not after and before is not snapshot.NOTHING:
            details = ProviderEventDetails(flags_changed=snapshot.changed(before, after))
            self._provider.emit_provider_configuration_changed(details)

    def stale(self, message: str) -> None:
        """Hear that the server cannot be asked: what is known may be old."""
        if self._turned(_Health.STALE, message):
            self._provider.emit_provider_stale(ProviderEventDetails(message=message))

    def refused(self, message: str) -> None:
        """Hear that the token is not good, or no longer."""
        if self._turned(_Health.REFUSED, message):
            details = ProviderEventDetails(message=message, error_code=ErrorCode.GENERAL)
            self._provider.emit_provider_error(details)
        self._answered.set()

    def _turned(self, health: _Health, message: str) -> bool:
        """Note how it goes; whether that is news. The SDK itself tells how the start went."""
        with self._lock:
            before, self._health, self._said = self._health, health, message
            return before is not health and not self._waited_for


def _json(asked: EvaluationContext | None) -> dict[str, Any]:
    """Return a context as JSON has it; a moment is its text."""
    if asked is None:
        return {}
    found = {name: _plain(value) for name, value in asked.attributes.items()}
    if asked.targeting_key:
        found[TARGETING_KEY] = asked.targeting_key
    return found


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case list() | tuple():
            return [_plain(each) for each in cast("Sequence[object]", value)]
        case Mapping():
            pairs = cast("Mapping[str, object]", value)
            return {name: _plain(each) for name, each in pairs.items()}
        case _:
            return value
