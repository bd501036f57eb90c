"""Which index searches: the setting `feed.index`, and what it needs installed."""

from functools import partial
from importlib import import_module
from typing import Any, assert_never

from millrace.feed.coarse import Coarse
from millrace.feed.first_look import LookMaker
from millrace.feed.types import IndexKind
from millrace.kernel.errors import SetupError


def first_look(kind: IndexKind) -> LookMaker:
    """Return what makes the first look of an index of a kind.

    Passes on:
        SetupError: what this kind needs is not installed.
    """
    match kind:
        case IndexKind.EXACT:
            return Coarse
        case IndexKind.TORCH:
            _library(kind, "torch", "torch")
            from millrace.feed.torch_look import torch_look  # late: it brings torch

            return torch_look
        case IndexKind.APPROXIMATE:
            from millrace.feed.neighbour_lists import NeighbourLists

            return partial(NeighbourLists, _library(kind, "faiss", "millrace[approximate]"))
    assert_never(kind)


def _library(kind: IndexKind, module: str, package: str) -> Any:
    """Return a library that only this kind needs.

    Raises:
        SetupError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise SetupError(
            f"feed.index is {kind}, which needs {module}, and that is not installed",
            field="feed.index",
            value=str(kind),
            next_step=f'pip install "{package}", or set feed.index to {IndexKind.EXACT}',
        ) from error
