"""OPCM: merge models one after the other, each by what is orthogonal to those before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.merge.protocol import Vectors
from fedfuse.shapes import Float
from fedfuse.validation import require_flag, require_number, require_one_of


class Merged(NamedTuple):
    """What has been merged so far.

    Args:
        delta: How far the merged model is from the base, float64 [N].
        rescaled: By what ``delta`` was divided last (lambda).
        norm: Mean norm of the task vectors so far, which is that of ``delta``.
        models: How many those were.
    """

    delta: Float[Tensor, " N"]
    rescaled: float
    norm: float
    models: int


def cleaned(merged: Float[Tensor, "a b"], task: Float[Tensor, "a b"], alpha: float) -> Tensor:
    """Return what of a task matrix is new beside what has been merged.

    In the bases of the singular vectors of ``merged``, what is cut away is the diagonal and the
    block of the leading directions: those before the first at which the share of the singular
    values, summed from the largest, exceeds ``alpha``.

    >>> cleaned(torch.diag(torch.tensor([2.0, 1.0])), torch.tensor([[3.0, 1.0], [1.0, 2.0]]), 0.5)
    tensor([[0., 1.],
            [1., 0.]])
    """
    u, s, vh = torch.linalg.svd(merged, full_matrices=False)
    if float(s.sum()) == 0:
        return task
    leading = int((s.cumsum(dim=0) / s.sum() > alpha).float().argmax())
    cut = torch.eye(len(s), dtype=torch.bool, device=s.device)
    cut[:leading, :leading] = True
    # What is cut lies within the first len(s) directions, so the rest of both bases is not needed.
    inside: Tensor = u @ torch.where(cut, u.T @ task @ vh.T, 0) @ vh
    return task - inside


def add(
    so_far: Merged | None, task: Float[Tensor, " N"], shapes: list[tuple[int, ...]], alpha: float
) -> Merged:
    """Return what has been merged with one more task vector.

    Args:
        so_far: What has been merged before; None for nothing.
        task: The task vector, float64.
        shapes: Of the tensors in it; one of two dimensions or more is a matrix, rows first.
        alpha: As of :func:`cleaned`.
    """
    norm = float(task.norm())
    if so_far is None:
        return Merged(task, 1.0, norm, 1)
    mean = (so_far.norm * so_far.models + norm) / (so_far.models + 1)
    sizes = [int(torch.Size(shape).numel()) for shape in shapes]
    parts = []
    both = torch.split(so_far.delta, sizes), torch.split(task, sizes)
    for shape, old, new in zip(shapes, *both, strict=True):
        if len(shape) > 1 and new.numel():
            rows = shape[0]
            new = cleaned(old.reshape(rows, -1), new.reshape(rows, -1), alpha).reshape(-1)
        parts.append(so_far.rescaled * old + new)
    delta = torch.cat(parts)
    length = float(delta.norm())
    if length == 0 or mean == 0:
        return Merged(delta, 1.0, mean, so_far.models + 1)
    return Merged(delta * (mean / length), length / mean, mean, so_far.models + 1)


@dataclass(slots=True)
class Opcm:
    """Orthogonal projection-based continual merging (Tang et al. 2025, arXiv 2501.09522).

    Every model counts alike. The merged model is as far from the base as the models are in the
    mean.

    Args:
        alpha: From 0 to below 1; the larger, the more of the leading directions is left alone.
        order: Of the models in a round: ``shuffled`` anew, or ``ascending`` by client.
        continual: Whether a round goes on from what was merged in those before it, with the base
            of the first, instead of beginning anew.
    """

    alpha: float = 0.5
    order: str = "shuffled"
    continual: bool = False
    _known: dict[str, tuple[Tensor, Merged]] = field(init=False, default_factory=dict)
    needs_base: ClassVar[bool] = True
    by_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_number("Opcm", "alpha", self.alpha, at_least=0, below=1)
        require_one_of("Opcm", "order", self.order, ("shuffled", "ascending"))
        require_flag("Opcm", "continual", self.continual)

    def __call__(self, models: Vectors, receivers: Tensor) -> Float[Tensor, "1 N"]:  # noqa: ARG002
        """Return one row for all."""
        assert models.base is not None
        base, so_far = self._known.get(models.architecture, (models.base, None))
        tasks = models.vectors.double() - base.double()
        order = torch.arange(len(tasks))
        if self.order == "shuffled":
            order = torch.randperm(len(tasks), generator=models.generator("order"))
        shapes = [shape for _, shape, _ in models.layout.entries]
        for row in order.tolist():
            so_far = add(so_far, tasks[row], shapes, self.alpha)
        assert so_far is not None
        if self.continual:
            self._known[models.architecture] = base, so_far
        return (base.double() + so_far.delta).float().unsqueeze(0)

    def state(self) -> dict[str, Tensor]:
        """Return what has been merged of each architecture; nothing if rounds begin anew."""
        return {
            f"{name}/{key}": value.clone()
            for name, (base, so_far) in self._known.items()
            for key, value in (
                ("base", base),
                ("delta", so_far.delta),
                ("numbers", torch.tensor(so_far[1:], dtype=torch.float64)),
            )
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned.

        Raises:
            FedfuseError: If it is something else.
        """
        names = sorted({key.rpartition("/")[0] for key in state})
        try:
            self._known = {name: _known(state, name) for name in names}
        except (KeyError, ValueError) as error:
            raise FedfuseError("The checkpoint holds no merged models", got=str(error)) from error


def _known(state: Mapping[str, Tensor], name: str) -> tuple[Tensor, Merged]:
    rescaled, norm, count = state[f"{name}/numbers"].tolist()
    delta = state[f"{name}/delta"].double()
    return state[f"{name}/base"].float(), Merged(delta, rescaled, norm, int(count))
