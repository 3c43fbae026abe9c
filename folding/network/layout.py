"""Lay out a network without values: its tensors have shapes and types, on torch's meta device.

Initial values are not drawn, since weights replace them all. On the meta device torch would draw them by its Python
reference functions, for which it imports torch._dynamo: a second of every process that loads a network, and 80 MB.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _WithoutInitialization(TorchFunctionMode):
    """Functions of torch.nn.init return the tensor as it is."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return options["tensor"] if "tensor" in options else args[0]
        return func(*args, **options)


@contextmanager
def without_values() -> Iterator[None]:
    """Modules constructed in this block have shapes and types but no values: meta tensors."""
    with torch.device("meta"), _WithoutInitialization():
        yield
