"""How much memory a piece of work takes: the bytes of its tensors that live at once."""

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """Inside ``with Peak() as peak``, ``peak.bytes`` is the most that new tensors took at once.

    Counted are the storages that operators put out, forward and backward, each once for all its
    views, from when it is made until it is freed; not counted is what was there before, nor what
    an operator allocates and frees within itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.bytes = 0
        self.known = weakref.WeakSet[Any]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for storage in storages((args, kwargs)):
            self.known.add(storage)  # if it is new here, it was there before
        result = func(*args, **kwargs)
        for storage in storages(result):
            if storage not in self.known:
                self.known.add(storage)
                self.live += storage.nbytes()
                weakref.finalize(storage, self.freed, storage.nbytes())
        self.bytes = max(self.bytes, self.live)
        return result

    def freed(self, size: int) -> None:
        """A storage of that many bytes is gone."""
        self.live -= size


def storages(tree: Any) -> list[Any]:
    """Of the tensors among the arguments or results of an operator."""
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
