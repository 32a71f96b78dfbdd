"""What the checks of plug-in parts have in common: call, compare, and say what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor

from fedfuse.declarations import wrong_declaration
from fedfuse.testing.failed import CheckFailed
from fedfuse.types import KnowledgeBank


def _tensors(value: object) -> list[Tensor]:
    """Return copies of the tensors in an argument."""
    if isinstance(value, Tensor):
        return [value.clone()]
    if isinstance(value, KnowledgeBank):
        return [t for f in fields(value) for t in _tensors(getattr(value, f.name))]
    return []


def call_twice(name: str, part: Callable[..., Tensor], *args: object) -> Tensor:
    """Return what the part returns, having seen that it repeats itself and leaves its inputs."""
    before = [tensor for arg in args for tensor in _tensors(arg)]
    first = part(*args)
    kept = first.clone() if isinstance(first, Tensor) else first
    second = part(*args)
    after = [tensor for arg in args for tensor in _tensors(arg)]
    unchanged = all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    expect(unchanged, name, "changes its inputs")
    if isinstance(kept, Tensor) and isinstance(second, Tensor):
        same = kept.shape == second.shape and torch.equal(kept.nan_to_num(), second.nan_to_num())
        expect(same, name, "gives another result when it is called again")
    return kept


def expect_declared(name: str, part: object, slot: str) -> None:
    """Raise unless what the part declares (:mod:`fedfuse.declarations`) can be understood."""
    wrong = wrong_declaration(part, slot)
    expect(wrong is None, name, str(wrong))


def expect(ok: bool, name: str, what: str) -> None:
    """Raise a sentence about the part unless ``ok``."""
    if not ok:
        raise CheckFailed(f"{name} {what}")


def expect_tensor(
    name: str, value: object, shape: tuple[int, ...], dtype: torch.dtype | None = None
) -> None:
    """Raise unless the value is a tensor of the shape and dtype (None: any float)."""
    right = isinstance(value, Tensor) and tuple(value.shape) == shape
    if right and isinstance(value, Tensor):
        right = value.is_floating_point() if dtype is None else value.dtype == dtype
    if not right:
        got = type(value).__name__
        if isinstance(value, Tensor):
            got = f"{value.dtype} of shape {list(value.shape)}"
        raise CheckFailed(
            f"{name} returned the wrong thing",
            got=got,
            expected=f"a {'float' if dtype is None else dtype} tensor of shape {list(shape)}",
        )


def expect_simplex(name: str, probs: Tensor) -> None:
    """Raise unless every row is a distribution."""
    off = float((probs.sum(dim=-1) - 1).abs().max())
    ok = bool((probs >= 0).all()) and off < 1e-4
    expect(ok, name, f"left the simplex: smallest {float(probs.min()):g}, a sum is off by {off:g}")


def expect_close(name: str, got: Tensor, expected: Tensor, what: str) -> None:
    """Raise unless the tensors agree within float tolerance."""
    same = got.shape == expected.shape and torch.allclose(got, expected, rtol=1e-4, atol=1e-5)
    expect(same, name, what)
