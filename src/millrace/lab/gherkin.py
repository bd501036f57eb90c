"""Reads Gherkin, as much of it as public suites of behaviour use: outlines become their rows."""

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, field

from millrace.kernel.errors import InvalidError

STEP = re.compile(r"(?:Given|When|Then|And|But)\s+(.*)")
HEADING = re.compile(r"(Feature|Background|Scenario Outline|Scenario|Examples):\s*(.*)")
CELL = re.compile(r"(?<!\\)\|")

Table = list[list[str]]


class Step(Struct):
    """One line of a scenario, with the table under it."""

    text: str
    table: Table = field(default_factory=list[list[str]])

    def filled(self, values: dict[str, str]) -> "Step":
        """Return the step with the values of a row in the place of their names."""
        return Step(
            _filled(self.text, values), [[_filled(c, values) for c in r] for r in self.table]
        )


class Row(Struct, frozen=True):
    """A scenario that can be played: one row of an outline, or a scenario as it stands."""

    name: str
    tags: frozenset[str]
    steps: list[Step]


class _Examples(Struct):
    """A table of rows of an outline."""

    tags: frozenset[str]
    table: Table = field(default_factory=list[list[str]])


class _Scenario(Struct):
    """A scenario as it is read."""

    name: str
    tags: frozenset[str]
    steps: list[Step] = field(default_factory=list[Step])
    examples: list[_Examples] = field(default_factory=list[_Examples])


class _Reader:
    """What has been read of a feature so far."""

    def __init__(self) -> None:
        self.tags: frozenset[str] = frozenset()
        self.waiting: frozenset[str] = frozenset()
        self.background: list[Step] = []
        self.scenarios: list[_Scenario] = []
        self.steps = self.background
        self.table: Table | None = None

    def take(self, line: str) -> None:
        """Take in a line that says something.

        Raises:
            InvalidError: it is none of the lines that this reads.
        """
        if line.startswith("@"):
            self.waiting |= set(line.split())
        elif line.startswith("|"):
            self._row(line)
        elif heading := HEADING.fullmatch(line):
            self._heading(*heading.groups())
        elif step := STEP.fullmatch(line):
            self.steps.append(Step(step[1]))
            self.table = self.steps[-1].table
        else:
            raise InvalidError(f"a feature has a line that is no step: {line[:80]}", value=line)

    def _heading(self, kind: str, name: str) -> None:
        """Begin a part of the feature."""
        tags, self.waiting = self.waiting, frozenset()
        if kind == "Feature":
            self.tags = tags
        elif kind == "Examples":
            examples = _Examples(tags)
            self.scenarios[-1].examples.append(examples)
            self.table = examples.table
        elif kind != "Background":
            self.scenarios.append(_Scenario(name, self.tags | tags))
            self.steps = self.scenarios[-1].steps

    def _row(self, line: str) -> None:
        """Take in a row of a table.

        Raises:
            InvalidError: no step and no outline stands before it.
        """
        if self.table is None:
            raise InvalidError(f"a feature has a row without a table: {line[:80]}", value=line)
        cells = CELL.split(line.strip()[1:-1])
        self.table.append([cell.strip().replace("\\|", "|") for cell in cells])

    def rows(self) -> Iterator[Row]:
        """Yield the scenarios and the rows of outlines, each with the steps of the background."""
        for scenario in self.scenarios:
            steps = [*self.background, *scenario.steps]
            if not scenario.examples:
                yield Row(scenario.name, scenario.tags, steps)
            for examples in scenario.examples:
                names, *values = examples.table
                for cells in values:
                    named = dict(zip(names, cells, strict=True))
                    name = f"{scenario.name} [{', '.join(cells)}]"
                    filled = [step.filled(named) for step in steps]
                    yield Row(name, scenario.tags | examples.tags, filled)


def rows(file: Path) -> list[Row]:
    """Return the scenarios of a feature file that can be played.

    Raises:
        InvalidError: it has what this does not read; names the file and the line.
    """
    reader = _Reader()
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        said = line.strip()
        if not said or said.startswith("#"):
            continue
        try:
            reader.take(said)
        except InvalidError as error:
            raise InvalidError(f"{file.name}:{number}: {error.message}", value=line) from error
    return list(reader.rows())


def _filled(text: str, values: dict[str, str]) -> str:
    """Return a text with values in the place of `<names>`."""
    return re.sub(r"<([^<>]+)>", lambda found: values.get(found[1], found[0]), text)
