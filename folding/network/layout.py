"""Construction of a network without values: its tensors have shapes and dtypes, on torch's meta device.

Initial values are not drawn, because the weights replace all of them. On the meta device torch would draw them with
Python reference functions, which import torch._dynamo: a second and 80 MB in every process that loads a network.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _WithoutInitialization(TorchFunctionMode):
    """Functions of torch.nn.init return their tensor unchanged."""

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
    """Construct modules in this block on the meta device, without initial values."""
    with torch.device("meta"), _WithoutInitialization():
        yield
