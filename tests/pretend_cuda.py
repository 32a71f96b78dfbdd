"""A GPU that is none: tensors lie on the CPU, but are said to be, and treated as if, elsewhere.

What a machine without a GPU cannot show is an operation that mixes devices, ``numpy`` on a tensor
of the device, a generator of the CPU that shall draw there, or a step that waits for the device
while it is recorded. Within :class:`PretendCuda` each of them raises, as on a GPU; all else
computes what it computes on the CPU. Speed and rounding it does not show.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HERE, THERE = torch.device("cpu"), torch.device("cuda", 0)
_FROM_ANYWHERE = {"copy_", "_to_copy", "_copy_from", "set_"}
_INDEX_FROM_HOST = {"index", "index_put_", "index_put", "_index_put_impl_"}
_WAITS = {"_local_scalar_dense", "nonzero", "bincount", "_unique2", "masked_select", "is_nonzero"}
_AS_NUMPY = {"numpy", "__array__", "__dlpack__"}
_PINNED = {"pin_memory"}
_TAKES_TENSORS = {"to", "cpu", "cuda"}


def is_there(tensor: Tensor) -> bool:
    """Return whether a tensor is said to lie on the device."""
    while is_functorch_wrapped_tensor(tensor):
        tensor = get_unwrapped(tensor)
    if tensor.layout is torch.sparse_coo:
        tensor = tensor._values()
    return getattr(tensor.untyped_storage(), "pretends", False)


def _say(found: Any, there: bool) -> None:
    """Note of all tensors in what was found that they lie there or here."""
    for tensor in tree_leaves(found):
        if not isinstance(tensor, Tensor):
            continue
        while is_functorch_wrapped_tensor(tensor):
            tensor = get_unwrapped(tensor)
        if tensor.layout is torch.sparse_coo:
            tensor = tensor._values()
        tensor.untyped_storage().pretends = there


class _Operations(TorchDispatchMode):
    """Refuse what mixes devices; what comes of a device's tensors lies there."""

    def __init__(self) -> None:
        super().__init__()
        self.recording = False
        self.waits = 0
        # Whether a function of torch is at work on the device's tensors: what it makes is there.
        self.within_there = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        with torch._C.DisableTorchFunction():
            given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            there = any(map(is_there, given)) if given else self.within_there
            if name in _INDEX_FROM_HOST and is_there(args[0]):  # its positions may lie here
                given = [args[0], *given[-1:]] if "put" in name else [args[0]]
            # A number of the host may take part in what the device does.
            stay = [t for t in given if not is_there(t) and t.dim()]
            if there and stay and name not in _FROM_ANYWHERE:
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found at least two: {func}"
                )
            if there and isinstance(kwargs.get("generator"), torch.Generator):
                raise RuntimeError(f"Expected a 'cuda' device type for generator: {func}")
            if there and (name in _WAITS or (name in _FROM_ANYWHERE and stay)):
                self.waits += 1
                if self.recording:
                    raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
            before = [is_there(t) for t in given]
        found = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            if name in _FROM_ANYWHERE and name != "_to_copy":
                for tensor, was in zip(given, before, strict=True):
                    _say(tensor, was)
            elif there:
                _say(found, True)
        return found


class PretendCuda(TorchFunctionMode):
    """While active, ``torch.device("cuda")`` works in this thread, as described above."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = _Operations()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if name == "__get__" and first is not None:
            if func == Tensor.device.__get__:  # type: ignore[attr-defined]
                return THERE if is_there(first) else HERE
            if func == Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
                return is_there(first)
            return func(*args, **kwargs)
        if name in _AS_NUMPY and first is not None and is_there(first):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        kwargs.pop("pin_memory", None)
        if name in _PINNED:
            return first
        target = self._target(name, first, args, kwargs)
        if isinstance(kwargs.get("device"), str | int | torch.device):
            kwargs["device"] = HERE
        if name in _TAKES_TENSORS and first is not None:
            args = tuple(HERE if isinstance(a, torch.device) else a for a in args)
            args = tuple(HERE if isinstance(a, str) else a for a in args)
            kwargs.pop("non_blocking", None)
            if len(args) > 1 and isinstance(args[1], Tensor):
                args = (first, args[1].dtype, *args[2:])
            if name == "cuda":
                func, args = Tensor.to, (first, HERE)
            found = func(*args, **kwargs)
            if target is not None and is_there(found) != target:
                self._moves()
                if found.data_ptr() == first.data_ptr():
                    found = found.clone()
                _say(found, target)
            return found
        if isinstance(kwargs.get("generator"), torch.Generator) and target:
            raise RuntimeError(f"Expected a 'cuda' device type for generator: {func}")
        if (
            target
            and name in ("tensor", "as_tensor")
            and not (first is not None and is_there(first))
        ):
            self._moves()
        leaves = tree_leaves((args, kwargs))
        before = self.operations.within_there
        self.operations.within_there = before or any(
            isinstance(leaf, Tensor) and is_there(leaf) for leaf in leaves
        )
        try:
            found = func(*args, **kwargs)
        finally:
            self.operations.within_there = before
        if name == "__deepcopy__":
            target = is_there(args[0])
        if target is not None and isinstance(found, Tensor):
            _say(found, target)
        return found

    def _moves(self) -> None:
        self.operations.waits += 1
        if self.operations.recording:
            raise RuntimeError("operation not permitted when stream is capturing: a copy")

    @staticmethod
    def _target(name: str, first: Tensor | None, args: Any, kwargs: Any) -> bool | None:
        """Return whether what a function returns shall lie there; None for where it computes."""
        device = kwargs.get("device")
        if name == "cpu":
            return False
        if name == "cuda":
            return True
        if name == "to" and len(args) > 1:
            if isinstance(args[1], Tensor):
                return is_there(args[1])
            if isinstance(args[1], str | torch.device):
                device = args[1]
        if device is None:
            return is_there(first) if name == "new_tensor" and first is not None else None
        return torch.device(device).type == "cuda"

    def recorded(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return what replays a step: it does it again, and must not wait for the device."""

        def replay() -> None:
            self.operations.recording = True
            try:
                function()
            finally:
                self.operations.recording = False

        return replay


@contextlib.contextmanager
def pretend_cuda() -> Iterator[PretendCuda]:
    """Make believe in a GPU until the context ends."""
    mode = PretendCuda()

    def record_on(device: torch.device) -> Callable[..., Any] | None:
        return mode.recorded if device.type == "cuda" else None

    def no_device(devices: Any = ()) -> Any:
        return forked([])

    stream = SimpleNamespace(wait_event=lambda _: None)
    event = SimpleNamespace(synchronize=lambda: None, record=lambda *_: None)
    nothing = contextlib.nullcontext
    cuda = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "mem_get_info": lambda *_: (2**33, 2**34),
        "memory_reserved": lambda *_: 0,
        "memory_allocated": lambda *_: 0,
        "max_memory_allocated": lambda *_: 0,
        "synchronize": lambda *_: None,
        "Stream": lambda *_: stream,
        "current_stream": lambda *_: stream,
        "stream": lambda *_: nothing(),
        "device": lambda *_: nothing(),
        "Event": lambda *_: event,
        "manual_seed": torch.manual_seed,
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda *_: None,
    }
    autocast, forked = torch.autocast, torch.random.fork_rng
    with contextlib.ExitStack() as stack:
        for name, stands_in in cuda.items():
            stack.enter_context(mock.patch(f"torch.cuda.{name}", stands_in))
        for module in ("replay", "batched"):
            stack.enter_context(mock.patch(f"fedfuse.train.{module}.record_on", record_on))
        stack.enter_context(
            mock.patch("torch.autocast", lambda _, *rest, **named: autocast("cpu", *rest, **named))
        )
        stack.enter_context(mock.patch("torch.random.fork_rng", no_device))
        stack.enter_context(mock.patch.object(Tensor, "record_stream", return_value=None))
        stack.enter_context(mode.operations)
        stack.enter_context(mode)
        yield mode
