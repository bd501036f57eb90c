"""Every kind of index behind the port, made so that small ones take it too."""

from functools import partial
from importlib.util import find_spec

import pytest

from millrace.feed.coarse import Coarse
from millrace.feed.neighbour_lists import NeighbourLists


def torch_kind(*, shared):
    from millrace.feed.torch_look import TorchLook

    return partial(TorchLook, device="cpu", shared=shared, posts_min=0, alone_share=0.0)


def lists_kind():
    faiss = pytest.importorskip("faiss", reason="faiss is an extra")
    return partial(NeighbourLists, faiss, exact=partial(Coarse, posts_min=0), posts_min=0)


EXACT_KINDS = {
    "whole": Coarse,  # with so few posts every row is read
    "eight bits": partial(Coarse, posts_min=0),
    "torch": torch_kind(shared=True),
    "torch with a copy": torch_kind(shared=False),
}
KINDS = EXACT_KINDS | ({"lists": lists_kind()} if find_spec("faiss") else {})


def machines(machine, kinds, settings):
    """Return a test class of a state machine for each kind; `look` of its class makes the first look."""
    named = {}
    for name, look in kinds.items():
        title = machine.__name__ + name.title().replace(" ", "")
        own = type(title, (machine,), {"look": staticmethod(look), "__doc__": machine.__doc__})
        own.TestCase.settings = settings
        named[f"Test{title}"] = own.TestCase
    return named
