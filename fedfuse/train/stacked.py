"""Many clients' models as one function of a matrix with a client's parameters per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fedfuse.train.moments import trained
from fedfuse.train.rows import as_rows, pieces
from fedfuse.train.trainer import Student


@dataclass(frozen=True, slots=True)
class StackedModels:
    """The models of K students of one architecture; made by :meth:`of`.

    Args:
        rows: Their trained parameters, [K, D]; the students' own are views of it.
        template: One of the models: the architecture, in training or evaluation mode.
        names: The trained parameters' names, in the order in which they lie in a row.
        like: Those parameters of the template, for their shapes.
        fixed: Frozen parameters and buffers by name, [K, ...] each.
    """

    rows: Tensor
    template: nn.Module
    names: tuple[str, ...]
    like: tuple[Tensor, ...]
    fixed: dict[str, Tensor]

    @classmethod
    def of(cls, students: Sequence[Student], *, training: bool) -> StackedModels:
        """Return the students' models, whose parameters become rows of one matrix."""
        own = [trained(student.optimizer) for student in students]
        template = students[0].model.train(training)
        moved = {id(parameter) for parameter in own[0]}
        by_id = {id(parameter): name for name, parameter in template.named_parameters()}
        kept = [name for name, p in template.named_parameters() if id(p) not in moved]
        fixed = {
            name: torch.stack([s.model.get_parameter(name).detach() for s in students])
            for name in kept
        }
        for name, _ in template.named_buffers():
            fixed[name] = torch.stack([s.model.get_buffer(name) for s in students])
        return cls(
            rows=as_rows(own),
            template=template,
            names=tuple(by_id[id(parameter)] for parameter in own[0]),
            like=tuple(own[0]),
            fixed=fixed,
        )

    def __call__(self, rows: Tensor, inputs: Tensor, *, shared: bool = False) -> Tensor:
        """Return the logits [A, B, C] of the first A students.

        Args:
            rows: Their parameters [A, D]: the first rows of ``self.rows``, or a leaf of autograd
                with the same values.
            inputs: [A, B, ...], or [B, ...] if ``shared``.
            shared: Whether all students look at the same inputs.
        """

        def one(own: tuple[Tensor, ...], fixed: dict[str, Tensor], x: Tensor) -> Tensor:
            named = {**dict(zip(self.names, own, strict=True)), **fixed}
            logits: Tensor = functional_call(self.template, named, (x,))
            return logits

        own = tuple(pieces(rows, self.like))
        fixed = {name: value[: len(rows)] for name, value in self.fixed.items()}
        batched = vmap(one, in_dims=(0, 0, None if shared else 0), randomness="different")
        logits: Tensor = batched(own, fixed, inputs)
        return logits
