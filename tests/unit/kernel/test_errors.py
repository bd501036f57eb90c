"""Errors carry what a person needs: the thing, the value, the limit, the next step."""

import inspect

import pytest

from millrace.kernel import errors
from millrace.kernel.errors import InvalidError, MillraceError, TooLargeError, TooManyError

TREE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, MillraceError)
]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in TREE]

    assert len(set(codes)) == len(codes)
    assert all(code == code.lower() and code.isidentifier() for code in codes)


def test_the_drawing_names_every_error() -> None:
    missing = [kind.__name__ for kind in TREE if kind.__name__ not in (errors.__doc__ or "")]

    assert not missing, f"draw {missing} into the tree at the top of kernel/errors.py"


def test_an_error_keeps_its_parts() -> None:
    error = InvalidError("text is 9 long", field="text", value=9, limit=5, next_step="shorten it")

    assert str(error) == error.message == "text is 9 long"
    assert (error.field, error.value, error.limit) == ("text", 9, 5)
    assert error.next_step == "shorten it"


def test_parts_that_are_not_given_are_none() -> None:
    error = InvalidError("no")

    assert (error.field, error.value, error.limit, error.next_step) == (None, None, None, None)


def test_too_large_is_caught_as_invalid() -> None:
    with pytest.raises(InvalidError):
        raise TooLargeError("text is too long")


@pytest.mark.parametrize(("seconds", "said"), [(12.4, 13), (12.0, 12), (0.2, 1), (0.0, 1)])
def test_too_many_says_when_to_return(seconds: float, said: int) -> None:
    error = TooManyError("600 requests in a minute", retry_seconds=seconds)

    assert error.retry_seconds == seconds
    assert error.next_step == f"try again in {said} s"
