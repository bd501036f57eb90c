"""Every example that the documents show is a command that exists, with options that it has."""

import re
import shlex
from pathlib import Path

import click
import pytest

from millrace.cli.main import millrace

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"^\s*(millrace [a-z-].*?)(?:\s+#.*)?$", re.MULTILINE)
DOCUMENTS = ["README.md", "docs/cli.md", "docs/import-format.md", "CONTRIBUTING.md"]


def examples() -> list[str]:
    """Return every line of a document that is a command, once."""
    texts = [
        (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS if (ROOT / name).exists()
    ]
    found = {line for text in texts for line in EXAMPLE.findall(text)}
    return sorted(line for line in found if "[" not in line and "..." not in line)  # no usage lines


def understood(line: str) -> list[str]:
    """Parse a line as the command would, without running it; return the commands it names."""
    arguments = shlex.split(line)[1:]
    context = millrace.make_context("millrace", arguments)
    path = ["millrace"]
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(
            context, context._protected_args + context.args
        )
        assert command is not None, f"{line!r}: there is no command {name!r}"
        context = command.make_context(name, list(rest), parent=context)
        path.append(str(name))
    return path


@pytest.mark.parametrize("line", examples())
def test_an_example_is_understood(line: str) -> None:
    assert understood(line)[0] == "millrace"


def test_there_are_examples_of_every_kind() -> None:
    named = {" ".join(understood(line)[1:]) for line in examples()}

    assert {"up", "serve", "feed", "why", "doctor", "import dir", "operator create"} <= named


def test_a_wrong_example_would_be_seen() -> None:
    with pytest.raises(click.UsageError):
        understood("millrace up --prot 1")
    with pytest.raises(click.UsageError):
        understood("millrace pu")
