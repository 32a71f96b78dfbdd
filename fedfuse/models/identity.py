"""What tells one frozen module from another: its code, parameters, files and weights, as a hash."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedfuse.models.factory import target_name


def identity(factory: Callable[..., Any], module: nn.Module) -> str:
    """Return a hash of all that decides what a module does, as far as it can be seen.

    Code counts by the files in which the factory and the classes of the module and its parts are
    written, torch's own excepted; what those files import does not. Where files lie does not count.

    Args:
        factory: What the module was built by, with its parameters if it is a ``partial``; a
            parameter that names a file stands for what is in it.
        module: The module.

    >>> net = functools.partial(nn.Linear, 2, 2, bias=False)
    >>> one, other = net(), net()
    >>> identity(net, one) == identity(net, one), identity(net, one) == identity(net, other)
    (True, False)
    """
    digest = hashlib.blake2b(repr(module).encode(), digest_size=16)
    said: list[tuple[str, object]] = []
    if isinstance(factory, functools.partial):
        said = [(name, _content(value)) for name, value in sorted(factory.keywords.items())]
        factory = factory.func
    digest.update(json.dumps([target_name(factory), said], default=str).encode())
    classes = {type(part) for part in module.modules()}
    for code in sorted({text for each in (factory, *classes) if (text := _source(each))}):
        digest.update(code)
    tensors = {**dict(module.named_buffers()), **module.state_dict()}
    for name, value in sorted(tensors.items()):
        if isinstance(value, Tensor):
            digest.update(repr((name, str(value.dtype), list(value.shape))).encode())
            flat = value.detach().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().data if len(flat) else b"")
    return digest.hexdigest()


def _content(value: object) -> object:
    """Return a parameter, or a hash of the file that it names."""
    if isinstance(value, str | Path) and len(str(value)) < 4096 and Path(value).is_file():
        with Path(value).open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    return value


def _source(code: Any) -> bytes | None:
    """Return the file that a class or function is written in; None for torch's own."""
    if str(getattr(code, "__module__", "torch")).partition(".")[0] == "torch":
        return None
    try:
        return Path(inspect.getsourcefile(code) or "").read_bytes()
    except (TypeError, OSError):  # what was made while this process runs
        return None
