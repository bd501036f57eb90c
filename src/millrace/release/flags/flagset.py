"""All flags of a process, compiled. To evaluate one never raises and never waits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import replace

from millrace.release.flags import bucketing, jsontext
from millrace.release.flags.coercion import text_of
from millrace.release.flags.logic import Answers, Compiler, Evaluators
from millrace.release.flags.parts import (
    DEPENDENCE_MAX,
    UNCOUNTED_MAX,
    BoundError,
    ContextError,
    RefusedError,
    Run,
    Way,
)
from millrace.release.flags.types import (
    ABSENT,
    Context,
    ErrorCode,
    FlagType,
    Reason,
    Resolution,
)

SHOWN_MAX = 80  # characters of a strange value in a message


class CompiledFlag(Struct, frozen=True):
    """One flag, ready to be asked.

    answer: what it always gives; None where its rule decides.
    way: its rule, to a resolution. runs: whether the rule needs a run.
    steps: what the rule costs at most, without what the run counts.
    variants: their names, none where it is broken.
    """

    answer: Resolution | None
    way: Way | None
    runs: bool
    metadata: Mapping[str, Any]
    steps: int = 1
    variants: frozenset[str] = frozenset()


class FlagSet:
    """Flags by key. Immutable: a change makes another set, which shares what did not change.

    Values and metadata are shared by all answers and must not be changed by whoever gets them.
    """

    def __init__(
        self,
        flags: dict[str, CompiledFlag],
        evaluators: Evaluators,
        metadata: Mapping[str, Any],
    ) -> None:
        self._flags = flags
        self._evaluators = evaluators
        self._metadata = metadata

    @classmethod
    def compile(cls, document: object) -> "FlagSet":
        """Return the set of a document: `flags`, `$evaluators`, `metadata`, as JSON values.

        What is broken answers with its error, so this never raises.
        """
        whole = _object(document)
        evaluators = Evaluators(_object(whole.get("$evaluators")))
        metadata = _metadata(whole.get("metadata"))
        return cls({}, evaluators, metadata).with_changes(_object(whole.get("flags")))

    @classmethod
    def of(
        cls, flags: Mapping[str, str], evaluators: str = "{}", metadata: str = "{}"
    ) -> "FlagSet":
        """Return the set of definitions by key, each as JSON text. This never raises, either."""
        shared, said = _read(evaluators), _read(metadata)
        return cls({}, Evaluators(_object(shared)), _metadata(said)).with_changes(flags)

    def with_changes(self, changes: Mapping[str, Any]) -> "FlagSet":
        """Return a set in which some flags are others, or, where there is None, are gone.

        Only these are compiled. For other metadata make a set anew.

        Args:
            changes: definitions by key, as JSON values or as JSON text.
        """
        flags = dict(self._flags)
        for key, definition in changes.items():
            if definition is None:
                flags.pop(key, None)
            else:
                flags[key] = _compiled(key, definition, self._evaluators, self._metadata)
        return FlagSet(flags, self._evaluators, self._metadata)

    def with_evaluators(self, evaluators: str) -> "FlagSet":
        """Return a set with other evaluators, as JSON text; flags that refer to them must follow."""
        return FlagSet(self._flags, Evaluators(_object(_read(evaluators))), self._metadata)

    def keys(self) -> Sequence[str]:
        """Return the keys of all flags, in order."""
        return sorted(self._flags)

    def variants(self, key: str) -> frozenset[str]:
        """Return the names of a flag's variants, none where it is broken or not there."""
        return self._flags[key].variants if key in self._flags else frozenset()

    @property
    def evaluators(self) -> Mapping[str, Any]:
        """What the rules of all flags may refer to."""
        return self._evaluators.rules

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is said of the whole set."""
        return self._metadata

    def evaluate(self, key: str, context: Context, now: float) -> Resolution:
        """Return what a flag gives, of whatever type.

        Args:
            key: of the flag.
            context: what it may look at.
            now: seconds since 1970.
        """
        try:
            flag = self._flags[key]
            if flag.answer is not None:
                return flag.answer
            if type(context) is not dict:
                context = _plain(context)
            if flag.runs:
                return flag.way(context, Run(now, context, self._variant))  # type: ignore[misc]
            return flag.way(context, None)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - a rule and a context may fail in every way
            return self._failed(key, error)

    def resolve(self, key: str, kind: FlagType, context: Context, now: float) -> Resolution:
        """Return what a flag gives to a caller who can use one type of value only."""
        found = self.evaluate(key, context, now)
        value = found.value
        if value is ABSENT or type(value) is _EXACT[kind]:
            return found
        if kind is FlagType.OBJECT and type(value) is list:
            return found
        if kind is FlagType.FLOAT and type(value) is int and abs(value) < 2**1000:
            return replace(found, value=float(value))
        if kind is FlagType.INTEGER and type(value) is float and value.is_integer():
            return replace(found, value=int(value))
        message = f"flag {key!r} gives {_shown(value)}, which is no {kind.value}"
        return _error(key, ErrorCode.TYPE_MISMATCH, message, found.metadata)

    def value(self, key: str, expression: object, context: Context, now: float) -> Any:
        """Return what a part of a flag's rule comes to, for whoever explains it; None if it fails.

        Args:
            key: of the flag.
            expression: JsonLogic; a `$ref` is looked up in this set.
            context: what it may look at.
            now: seconds since 1970.
        """
        metadata = self._flags[key].metadata if key in self._flags else self._metadata
        version = bucketing.named(metadata.get(bucketing.METADATA_KEY, bucketing.DEFAULT))
        if version is None:
            return None
        try:
            part = Compiler(key, self._evaluators, version, Answers()).part(expression, "")
            data = _plain(context)
            return part.way(data, Run(now, data, self._variant))
        except Exception:  # noqa: BLE001 - as in `evaluate`
            return None

    def _variant(self, key: str, run: Run) -> str:
        """Return the variant that another flag gives in the same evaluation.

        Raises:
            BoundError: it is missing, broken, or depends on the flag that asks.
        """
        answers = run.answers = {} if run.answers is None else run.answers
        if key in answers:
            known = answers[key]
            if known is None:
                raise BoundError(f"flag {key!r} depends on itself")
            return known
        flag = self._flags.get(key)
        if flag is None:
            raise BoundError(f"it depends on flag {key!r}, which is not there")
        run.depth += 1
        run.charge(flag.steps)
        if run.depth > DEPENDENCE_MAX:
            raise BoundError(f"more than {DEPENDENCE_MAX} flags depend on one another in a row")
        answers[key] = None
        found = flag.answer if flag.way is None else flag.way(run.context, run)
        run.depth -= 1
        if found is None or found.error is not None:
            raise BoundError(f"it depends on flag {key!r}, which is broken")
        answers[key] = found.variant
        return found.variant

    def _failed(self, key: object, error: Exception) -> Resolution:
        """Return the answer of an evaluation that failed."""
        flag = self._flags.get(key) if isinstance(key, str) else None
        if flag is None:
            message = f"there is no flag {_shown(key)}: see `millrace flags list`"
            return _error(key, ErrorCode.FLAG_NOT_FOUND, message, self._metadata)
        code = ErrorCode.GENERAL
        message = str(error) if isinstance(error, BoundError | _UnknownVariantError) else ""
        if isinstance(error, ContextError):
            code, message = ErrorCode.INVALID_CONTEXT, str(error)
        message = message or f"the rule failed: {type(error).__name__}"
        return _error(key, code, f"flag {key!r}: {message}", flag.metadata)


class _UnknownVariantError(ValueError):
    """A rule chose what is no variant."""


class _Resolutions(Answers):
    """The resolutions of a flag, made once and shared by all evaluations."""

    def __init__(
        self,
        key: str,
        variants: Mapping[str, Any],
        default: object,
        metadata: Mapping[str, Any],
    ) -> None:
        self._key = key
        self._metadata = metadata
        self._variants = variants
        self._chosen = self._all(Reason.TARGETING_MATCH)
        self._drawn = self._all(Reason.SPLIT)
        self._default = text_of(default) if isinstance(default, str | bool) else ""
        self._nothing = self.by_default(Reason.DEFAULT)

    def _all(self, reason: Reason) -> dict[Any, Resolution]:
        return {
            name: Resolution(self._key, value, name, reason, self._metadata)
            for name, value in self._variants.items()
        }

    def by_default(self, reason: Reason) -> Resolution:
        """Return the default variant; the caller's own value where the flag names none."""
        if not self._default:
            return Resolution(self._key, ABSENT, "", Reason.DEFAULT, self._metadata)
        if self._default not in self._variants:
            message = f"flag {self._key!r}: its default {self._default!r} is none of its variants"
            return _error(self._key, ErrorCode.GENERAL, message, self._metadata)
        value = self._variants[self._default]
        return Resolution(self._key, value, self._default, reason, self._metadata)

    def chosen(self, variant: Any) -> Resolution:
        return self._of(self._chosen, variant)

    def drawn(self, variant: Any) -> Resolution:
        return self._of(self._drawn, variant)

    def nothing(self) -> Resolution:
        return self._nothing

    def _of(self, resolutions: dict[Any, Resolution], variant: Any) -> Resolution:
        """Return the resolution of a variant; an error for what is none."""
        if variant is None:
            return self._nothing
        name = text_of(variant) if isinstance(variant, str | bool | int | float) else None
        found = None if name is None else resolutions.get(name)
        if found is not None:
            return found
        message = f"flag {self._key!r}: its rule chose {_shown(variant)}, which is no variant"
        return _error(self._key, ErrorCode.GENERAL, message, self._metadata)


def _compiled(
    key: str, definition: object, evaluators: Evaluators, shared: Mapping[str, Any]
) -> CompiledFlag:
    """Return a flag that is ready to be asked; one that tells what is wrong where it is broken."""
    metadata = shared
    try:
        definition = jsontext.value_of(definition) if isinstance(definition, str) else definition
        jsontext.weigh(definition)
        metadata = {**shared, **_metadata(_object(definition).get("metadata"))}
        ready = _ready(key, _object(definition), evaluators, metadata)
        return replace(ready, variants=frozenset(_object(_object(definition).get("variants"))))
    except Exception as error:  # noqa: BLE001 - a definition may be broken in every way
        place = f" at {error.place}" if isinstance(error, RefusedError) and error.place else ""
        told = str(error) if isinstance(error, RefusedError) else type(error).__name__
        message = f"flag {key!r} is broken{place}: {told}"
        answer = _error(key, ErrorCode.PARSE_ERROR, message, metadata)
        return CompiledFlag(answer=answer, way=None, runs=False, metadata=metadata)


def _ready(
    key: str, definition: dict[str, Any], evaluators: Evaluators, metadata: Mapping[str, Any]
) -> CompiledFlag:
    """Return a flag that is ready to be asked.

    Raises:
        RefusedError: its definition cannot be used.
    """
    state, variants = definition.get("state"), definition.get("variants")
    if state not in ("ENABLED", "DISABLED"):
        raise RefusedError("/state", f"state is {_shown(state)}; it is ENABLED or DISABLED")
    if not isinstance(variants, dict) or not variants:
        raise RefusedError("/variants", "variants is an object with at least one name and value")
    if state == "DISABLED":
        answer = Resolution(key, ABSENT, "", Reason.DISABLED, metadata)
        return CompiledFlag(answer=answer, way=None, runs=False, metadata=metadata)
    named = _of_one_kind(cast("dict[str, Any]", variants))
    answers = _Resolutions(key, named, definition.get("defaultVariant"), metadata)
    targeting = definition.get("targeting")
    if not targeting:
        answer = answers.by_default(Reason.STATIC)
        return CompiledFlag(answer=answer, way=None, runs=False, metadata=metadata)
    if not isinstance(targeting, dict):
        raise RefusedError("/targeting", "targeting is a JSON object")
    name = metadata.get(bucketing.METADATA_KEY, bucketing.DEFAULT)
    version = bucketing.named(name)
    if version is None:
        known = ", ".join(bucketing.NAMED)
        raise RefusedError("/metadata/bucketing", f"there is no bucketing {name!r}; use {known}")
    compiler = Compiler(key, evaluators, version, answers)
    part = compiler.answer(targeting, "/targeting")
    answer = part.value if part.constant else None
    runs = compiler.runs or part.steps > UNCOUNTED_MAX
    return CompiledFlag(answer, part.way, runs, metadata, steps=part.steps + 1)


def _read(text: str) -> object:
    """Return what a text holds, nothing where it is no JSON."""
    try:
        return jsontext.value_of(text)
    except RefusedError:
        return None


def _of_one_kind(variants: dict[str, Any]) -> dict[str, Any]:
    """Return variants with whole numbers as floats where another of them has a fraction.

    JSON has one kind of number and clients have two: they refuse 1 where 0.5 was the other value.
    """
    kinds: set[type[Any]] = {type(value) for value in variants.values()}
    if kinds != {int, float}:
        return variants
    return {name: float(value) for name, value in variants.items()}


def _object(value: object) -> dict[str, Any]:
    """Return an object, an empty one for anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _metadata(value: object) -> dict[str, Any]:
    """Return what metadata may hold: texts, numbers and truths."""
    kinds = (str, int, float, bool)
    return {name: one for name, one in _object(value).items() if isinstance(one, kinds)}


def _plain(context: object) -> dict[str, Any]:
    """Return a context as a dictionary.

    Raises:
        ContextError: it is no object.
    """
    if isinstance(context, Mapping):
        return dict(cast("Mapping[str, Any]", context))
    raise ContextError(f"a context is a JSON object, not {type(context).__name__}")


def _error(key: object, code: ErrorCode, message: str, metadata: Mapping[str, Any]) -> Resolution:
    """Return the answer that leaves the caller their own default, and says why."""
    name = key if isinstance(key, str) else _shown(key)
    return Resolution(name, ABSENT, "", Reason.ERROR, metadata, code, message)


def _shown(value: object) -> str:
    """Return a short form of a value that may be of any size and kind."""
    if isinstance(value, str):
        return repr(value[:SHOWN_MAX])
    return f"{value!r}"[:SHOWN_MAX] if isinstance(value, bool | float | None) else _kind(value)


def _kind(value: object) -> str:
    return (
        str(value)[:SHOWN_MAX]
        if type(value) is int and abs(value) < 2**63
        else (f"a value of type {type(value).__name__}")
    )


_EXACT: Mapping[FlagType, Callable[..., Any]] = {
    FlagType.BOOLEAN: bool,
    FlagType.STRING: str,
    FlagType.INTEGER: int,
    FlagType.FLOAT: float,
    FlagType.OBJECT: dict,
}
