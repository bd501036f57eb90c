"""JsonLogic, compiled once: an expression becomes a closure that its evaluations share.

What a definition says is decided here, once: constants are folded, paths are split, lists of
texts become sets, versions are parsed. What is left is a function of data and run. A rule in the
place of the answer (the branches of an `if`, a split) gives the finished answer itself.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from msgspec import Struct

from millrace.release.flags import closures, loops, operators, paths, splits
from millrace.release.flags.bucketing import Bucketing
from millrace.release.flags.coercion import truthy
from millrace.release.flags.expressions import DEPENDS
from millrace.release.flags.parts import (
    OPERATIONS_MAX,
    OPERATORS_DEEP_MAX,
    BoundError,
    Part,
    RefusedError,
    Run,
    Way,
    constant,
)
from millrace.release.flags.pointers import escaped

Compile: TypeAlias = Callable[[Any, str], Part]

REFERENCE = "$ref"
FLAG = DEPENDS
SHOWN_MAX = 80
CONTROL = (
    *("if", "?:", "and", "or", "var", "missing", "missing_some"),
    *("reduce", "merge", "fractional", FLAG),
)
KNOWN = frozenset({*CONTROL, *operators.EAGER, *loops.LOOPS, *loops.TESTS})
"""Every operator that there is; `$ref` is resolved before."""


class Answers:
    """What a variant becomes when it is the answer; here itself, in a flag its resolution."""

    def chosen(self, variant: Any) -> Any:
        """Return the answer where a rule chose."""
        return variant

    def drawn(self, variant: Any) -> Any:
        """Return the answer where a split chose."""
        return variant

    def nothing(self) -> Any:
        """Return the answer where nothing was chosen."""
        return None


class Used(Struct, frozen=True):
    """A shared evaluator, compiled.

    height: operators within one another. runs: whether it needs a run.
    keyed: whether it is of one flag only, for it looks at its key or its bucketing.
    """

    part: Part
    height: int
    runs: bool
    keyed: bool


class Evaluators:
    """What all flags of a set may refer to, and those that are compiled: once for all flags."""

    def __init__(self, rules: Mapping[str, Any]) -> None:
        self.rules = rules
        self.done: dict[tuple[str, bool, bool], Used] = {}


class Compiler:
    """Compiles the rule of one flag. `runs` says whether its evaluations need a run."""

    def __init__(
        self, key: str, evaluators: Evaluators, bucketing: Bucketing, answers: Answers
    ) -> None:
        self._key = key
        self._evaluators = evaluators
        self._bucketing = bucketing
        self._answers = answers
        self._top = True
        self._depth = 0
        self._deepest = 0
        self._count = 0
        self._keyed = False
        self._open: list[str] = []
        self._done: dict[tuple[str, bool, bool], Used] = {}
        self.runs: bool = False
        self._control: Mapping[str, Callable[[list[Any], str], Part]] = {
            "if": self._value_of_branch,
            "?:": self._value_of_branch,
            "and": self._both,
            "or": self._either,
            "var": self._variable,
            "missing": self._missing,
            "missing_some": self._missing_some,
            "reduce": self._reduce,
            "merge": self._merge,
            "fractional": self._share_drawn,
            FLAG: self._flag,
        }

    def answer(self, logic: Any, place: str) -> Part:
        """Compile an expression whose value is the answer."""
        name, arguments = _operator(logic)
        if name in ("if", "?:"):
            nothing = constant(self._answers.nothing())
            return self._branches(arguments, f"{place}/{name}", self.answer, nothing)
        if name == REFERENCE:
            return self._referred(arguments, place, answer=True)
        if name == "fractional":
            answers = self._answers
            return self._split(arguments, f"{place}/{name}", answers.drawn, answers.nothing())
        part = self.part(logic, place)
        if part.constant:
            return constant(self._answers.chosen(part.value), part.steps)
        return Part(way=closures.then(part.way, self._answers.chosen), steps=part.steps)

    def part(self, logic: Any, place: str) -> Part:
        """Compile an expression.

        Raises:
            RefusedError: it cannot be compiled.
        """
        if not isinstance(logic, list | dict):
            return constant(logic)
        self._depth += 1
        self._count += 1
        self._deepest = max(self._deepest, self._depth)
        if self._depth > OPERATORS_DEEP_MAX:
            raise RefusedError(place, f"more than {OPERATORS_DEEP_MAX} operators within each other")
        if self._count > OPERATIONS_MAX:
            raise RefusedError(place, f"more than {OPERATIONS_MAX:,} operators: shorten the rules")
        try:
            return self._checked(self._compiled(logic, place), place)
        finally:
            self._depth -= 1

    def test(self, logic: Any, place: str) -> Part:
        """Compile an expression of which only matters whether it holds, to Python's truth."""
        name, arguments = _operator(logic)
        if name in ("and", "or") and arguments:
            parts = self._each(arguments, f"{place}/{name}", self.test)
            return Part(way=closures.both_or_any(name, parts), steps=_steps(parts), plain=True)
        if name in ("!", "!!") and arguments:
            inner = self.test(arguments[0], f"{place}/{name}/0")
            way = closures.negated(inner.way) if name == "!" else inner.way
            return Part(way=way, steps=inner.steps + 1, plain=True)
        part = self.part(logic, place)
        if part.constant:
            return constant(truthy(part.value), part.steps)
        if part.plain:
            return part
        return Part(way=closures.then(part.way, truthy), steps=part.steps, plain=True)

    def _compiled(self, logic: Any, place: str) -> Part:
        """Compile a list, an object, or the operator that an object names."""
        if isinstance(logic, list):
            return self._list(cast("list[Any]", logic), place)
        name, arguments = _operator(logic)
        if not name:
            return constant(logic)
        if name == REFERENCE:
            return self._referred(arguments, place, answer=False)
        return self._operation(name, arguments, f"{place}/{escaped(name)}")

    def _list(self, items: list[Any], place: str) -> Part:
        """Compile a list of expressions; one of constants costs nothing."""
        if not any(isinstance(item, list | dict) for item in items):
            return constant(items)
        parts = self._each(items, place, self.part)
        if all(part.constant for part in parts):
            return constant([part.value for part in parts])
        return Part(way=closures.listed(_ways(parts)), steps=_steps(parts), plain=True)

    def _operation(self, name: str, arguments: list[Any], inside: str) -> Part:
        """Compile an operator.

        Raises:
            RefusedError: there is no such operator.
        """
        if name in operators.EAGER:
            return self._eager(name, self._each(arguments, inside, self.part))
        if name in loops.LOOPS or name in loops.TESTS:
            return self._loop(name, arguments, inside)
        if name in self._control:
            return self._control[name](arguments, inside)
        raise RefusedError(inside, f"there is no operator {name[:SHOWN_MAX]!r}")

    def _value_of_branch(self, arguments: list[Any], inside: str) -> Part:
        """Compile `if` as a value."""
        return self._branches(arguments, inside, self.part, constant(None))

    def _both(self, arguments: list[Any], inside: str) -> Part:
        """Compile `and` as a value."""
        parts = self._each(arguments, inside, self.part)
        return Part(way=closures.first("and", parts), steps=_steps(parts))

    def _either(self, arguments: list[Any], inside: str) -> Part:
        """Compile `or` as a value."""
        parts = self._each(arguments, inside, self.part)
        return Part(way=closures.first("or", parts), steps=_steps(parts))

    def _share_drawn(self, arguments: list[Any], inside: str) -> Part:
        """Compile a split as a value."""
        return self._split(arguments, inside, lambda variant: variant, None)

    def _merge(self, arguments: list[Any], inside: str) -> Part:
        """Compile lists that become one."""
        self.runs = True
        parts = self._each(arguments, inside, self.part)
        return Part(way=loops.merged(_ways(parts)), steps=_steps(parts), plain=True)

    def _branches(
        self, arguments: list[Any], inside: str, compile_: Compile, nothing: Part
    ) -> Part:
        """Compile pairs of a condition and what then holds, and what holds otherwise."""
        pairs: list[tuple[Part, Part]] = []
        for index in range(0, len(arguments) - 1, 2):
            condition = self.test(arguments[index], f"{inside}/{index}")
            pairs.append((condition, compile_(arguments[index + 1], f"{inside}/{index + 1}")))
        last = len(arguments) - 1
        otherwise = compile_(arguments[last], f"{inside}/{last}") if last % 2 == 0 else nothing
        steps = _steps([part for pair in pairs for part in pair]) + otherwise.steps
        live = [pair for pair in pairs if not pair[0].constant or pair[0].value]
        if live and live[0][0].constant:
            return live[0][1]
        if not live:
            return otherwise
        return Part(way=closures.branches(live, otherwise), steps=steps)

    def _eager(self, name: str, parts: list[Part]) -> Part:
        """Compile an operator that looks at the values of all its arguments."""
        operator = operators.EAGER[name]
        steps = _steps(parts) + operators.STEPS.get(name, 1)
        if all(part.constant for part in parts):
            try:
                return constant(operator(*[part.value for part in parts]), steps)
            except BoundError:
                pass  # it is told when the flag is evaluated, as any other bound
        way = closures.special(name, parts) or closures.applied(operator, _ways(parts))
        return Part(way=way, steps=steps, plain=name in operators.PLAIN)

    def _variable(self, arguments: list[Any], inside: str) -> Part:
        """Compile a look at the data."""
        parts = self._each(arguments[:2], inside, self.part)
        path = parts[0] if parts else constant(None)
        default = parts[1] if len(parts) > 1 else None
        way = default.way if default and not (default.constant and default.value is None) else None
        if not path.constant:
            return Part(way=self._computed(path.way, way), steps=_steps(parts) + 5)
        names = paths.steps_of(path.value)
        if self._top and names[:1] in ((), (paths.DATA,)):
            return self._of_flagd(names, way, _steps(parts))
        name = names[0] if self._top and way is None and len(names) == 1 else ""
        read = paths.reader(names, way, top=self._top)
        return Part(way=read, steps=_steps(parts) + 1, name=name)

    def _of_flagd(self, names: tuple[str, ...], default: Way | None, steps: int) -> Part:
        """Compile a look at what flagd adds to a context: the flag's key and the time."""
        if names == (paths.DATA, "flagKey"):
            self._keyed = True
            return constant(self._key, steps)
        self.runs = True
        if names == (paths.DATA, "timestamp"):
            return Part(way=closures.timestamp, steps=steps + 1)
        return Part(way=self._computed(constant(".".join(names)).way, default), steps=steps + 5)

    def _computed(self, path: Way, default: Way | None) -> Way:
        """Return the way to what lies at a path that is found when it is asked."""
        whole: Way = closures.plain_data
        if self._top:
            self.runs = self._keyed = True
            whole = closures.with_flagd(self._key)
        return closures.looked_up(whole, path, default)

    def _missing(self, arguments: list[Any], inside: str) -> Part:
        """Compile a look at what a context lacks."""
        parts = self._each(arguments, inside, self.part)
        return Part(way=closures.missing(_ways(parts)), steps=_steps(parts) + 10, plain=True)

    def _missing_some(self, arguments: list[Any], inside: str) -> Part:
        """Compile a look at what a context lacks, where some of it is enough."""
        parts = self._each(arguments, inside, self.part)
        return Part(way=closures.missing_some(_ways(parts)), steps=_steps(parts) + 10, plain=True)

    def _loop(self, name: str, arguments: list[Any], inside: str) -> Part:
        """Compile an operator that applies a rule to each item of a list."""
        self.runs = True
        source, rule = (*arguments, None, None)[:2]
        items = self.part(source, f"{inside}/0")
        compile_ = self.test if name in loops.TESTS else self.part
        inner = self._inner(rule, f"{inside}/1", compile_)
        loop = loops.TESTS.get(name) or loops.LOOPS[name]
        steps = items.steps + inner.steps + 1
        return Part(way=loop(items.way, inner.way, inner.steps + 1), steps=steps, plain=True)

    def _reduce(self, arguments: list[Any], inside: str) -> Part:
        """Compile a fold of a list."""
        self.runs = True
        source, rule, initial = (*arguments, None, None, None)[:3]
        items = self.part(source, f"{inside}/0")
        inner = self._inner(rule, f"{inside}/1", self.part)
        first = self.part(initial, f"{inside}/2")
        way = loops.reduced(items.way, inner.way, inner.steps + 1, first.way)
        return Part(way=way, steps=items.steps + inner.steps + first.steps + 1)

    def _inner(self, rule: Any, place: str, compile_: Compile) -> Part:
        """Compile a rule whose data is an item of a list."""
        outside, self._top = self._top, False
        try:
            return compile_(rule, place)
        finally:
            self._top = outside

    def _flag(self, arguments: list[Any], inside: str) -> Part:
        """Compile a dependence on another flag.

        Raises:
            RefusedError: it does not name a flag and a variant.
        """
        self.runs = True
        if len(arguments) != 2 or not all(isinstance(one, str) for one in arguments):
            raise RefusedError(inside, f"{FLAG} takes two texts: the key of a flag and a variant")
        key, variant = cast("list[str]", arguments)

        def given(_data: Any, run: Run) -> bool:
            return run.variant(key, run) == variant

        return Part(way=given, steps=5, plain=True)

    def _referred(self, arguments: list[Any], place: str, *, answer: bool) -> Part:
        """Compile a shared evaluator, once for each use that differs.

        Raises:
            RefusedError: there is none of this name, or it refers to itself.
        """
        name = arguments[0] if len(arguments) == 1 else None
        if not isinstance(name, str) or name not in self._evaluators.rules:
            raise RefusedError(f"{place}/{REFERENCE}", f"there is no evaluator {name!r}")
        if name in self._open:
            raise RefusedError(f"{place}/{REFERENCE}", f"evaluator {name!r} refers to itself")
        memory = (name, answer, self._top)
        used = self._evaluators.done.get(memory) or self._done.get(memory)
        if used is None:
            compile_ = self.answer if answer else self.part
            used = self._used(name, lambda rule: compile_(rule, f"{place}/{REFERENCE}"))
            done = self._done if answer or used.keyed else self._evaluators.done
            done[memory] = used
        deepest = self._depth + used.height
        if deepest > OPERATORS_DEEP_MAX:
            raise RefusedError(place, f"more than {OPERATORS_DEEP_MAX} operators within each other")
        self._deepest = max(self._deepest, deepest)
        self._keyed, self.runs = self._keyed or used.keyed, self.runs or used.runs
        return used.part

    def _used(self, name: str, compile_: Callable[[Any], Part]) -> Used:
        """Compile a shared evaluator, and note what it needs."""
        before = self._deepest, self._keyed, self.runs
        self._deepest, self._keyed, self.runs = self._depth, False, False
        self._open.append(name)
        try:
            part = compile_(self._evaluators.rules[name])
            height = self._deepest - self._depth
            return Used(part=part, height=height, runs=self.runs, keyed=self._keyed)
        finally:
            self._open.pop()
            self._deepest, self._keyed, self.runs = before

    def _split(
        self, arguments: list[Any], inside: str, outcome: Callable[[Any], Any], nothing: Any
    ) -> Part:
        """Compile a split."""
        self._keyed = True
        first: Any = arguments[0] if arguments else []
        keyed = not isinstance(first, list)
        key = self.part(first, f"{inside}/0") if keyed else None
        shares = tuple(
            self._share(entry, f"{inside}/{index}")
            for index, entry in enumerate(arguments)
            if index or not keyed
        )
        split = splits.Split(
            flag_key=self._key,
            bucketing=self._bucketing,
            key=key,
            shares=shares,
            outcome=outcome,
            nothing=nothing,
            top=self._top,
        )
        return self._checked(splits.compiled(split), inside)

    def _share(self, entry: Any, place: str) -> splits.Share:
        """Compile one share of a split."""
        if not isinstance(entry, list):
            return splits.Share(constant(None), constant(None), self.part(entry, place))
        written = cast("list[Any]", entry)
        if not 1 <= len(written) <= 2:
            return splits.Share(constant(None), constant(None))
        variant = self.part(written[0], f"{place}/0")
        weight = self.part(written[1], f"{place}/1") if len(written) == 2 else constant(1)
        return splits.Share(variant, weight)

    def _each(self, arguments: Sequence[Any], inside: str, compile_: Compile) -> list[Part]:
        return [compile_(one, f"{inside}/{index}") for index, one in enumerate(arguments)]

    def _checked(self, part: Part, place: str) -> Part:
        """Return a part that is short enough to be evaluated at once.

        Raises:
            RefusedError: it would take too many steps.
        """
        if part.steps > OPERATIONS_MAX:
            raise RefusedError(
                place, f"takes more than {OPERATIONS_MAX:,} steps: shorten the rules"
            )
        return part


def _operator(logic: Any) -> tuple[str, list[Any]]:
    """Return the operator and arguments of an expression; an empty name where it is a value."""
    if not isinstance(logic, dict) or len(cast("dict[Any, Any]", logic)) != 1:
        return "", []
    ((name, arguments),) = cast("dict[Any, Any]", logic).items()
    if not isinstance(name, str):
        return "", []
    return name, cast("list[Any]", arguments) if isinstance(arguments, list) else [arguments]


def _ways(parts: Sequence[Part]) -> tuple[Way, ...]:
    return tuple(part.way for part in parts)


def _steps(parts: Sequence[Part]) -> int:
    """Return what parts cost, each a little even where it is constant."""
    return 1 + (len(parts) >> 2) + sum(part.steps for part in parts)
