"""Models of one kind and several widths: what averaging neighbouring units makes of the wide ones.

A hidden layer of s*D units becomes one of D: rows of its weights (its units) are averaged in groups
of s neighbours, columns of the next layer's (what is read of them) are added up. Back, rows are
copied and columns divided by s. The way back and forth changes nothing, and a network whose
neighbours are copies of one another computes the same before and after (a multi-level framework
for training, arXiv 2404.07999).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fedfuse.layout import Layout
from fedfuse.shapes import Float


@dataclass(frozen=True, slots=True)
class Stack:
    """A plain stack of layers, each of which reads what the one before it gives.

    Args:
        layers: For every tensor, in the layout's order, the number of the layer whose units its
            rows are, and of that whose units its columns read; None where those are no hidden
            units: the inputs' and the outputs'.
        widths: Units of each hidden layer.
        form: What models of other widths must have alike: every tensor's name and its shape, None
            in the place of hidden units.
    """

    layers: tuple[tuple[int | None, int | None], ...]
    widths: tuple[int, ...]
    form: tuple[tuple[str, tuple[int | None, ...]], ...]


def stack_of(layout: Layout) -> Stack | None:
    """Return a layout as a plain stack; None if it is none, as far as its shapes tell.

    A matrix or a convolution begins a layer; a vector behind it (a bias, a normalisation) belongs
    to its units. What reads feature maps that were flattened has several columns for each unit.

    >>> from torch import nn
    >>> stack_of(Layout.of(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))).widths
    (4,)
    """
    layers: list[tuple[int | None, int | None]] = []
    widths: list[int] = []
    for _, shape, _ in layout.entries:
        if len(shape) > 1:
            if widths and shape[1] % widths[-1]:
                return None
            layers.append((len(widths), len(widths) - 1 if widths else None))
            widths.append(shape[0])
        elif not widths or shape != (widths[-1],):
            return None
        else:
            layers.append((len(widths) - 1, None))
    if not widths:
        return None
    outputs = len(widths) - 1
    hidden = [(None if rows == outputs else rows, columns) for rows, columns in layers]
    form = tuple(
        (name, _form(shape, rows, columns, widths))
        for (name, shape, _), (rows, columns) in zip(layout.entries, hidden, strict=True)
    )
    return Stack(tuple(hidden), tuple(widths[:-1]), form)


def _form(
    shape: tuple[int, ...], rows: int | None, columns: int | None, widths: Sequence[int]
) -> tuple[int | None, ...]:
    form: list[int | None] = list(shape)
    if rows is not None:
        form[0] = None
    if columns is not None:
        form[1] = shape[1] // widths[columns]  # columns for each unit
    return tuple(form)


def narrowed(
    stack: Stack, tensors: Mapping[str, Tensor], widths: Sequence[int]
) -> dict[str, Tensor]:
    """Return a model's tensors, by name, with hidden layers of the widths, which divide its own."""
    made = {}
    for (name, _), (rows, columns) in zip(stack.form, stack.layers, strict=True):
        tensor = tensors[name]
        if rows is not None:
            tensor = narrow_rows(tensor, stack.widths[rows] // widths[rows])
        if columns is not None:
            width = stack.widths[columns]
            tensor = narrow_columns(tensor, width // widths[columns], width)
        made[name] = tensor
    return made


def widened(
    stack: Stack, tensors: Mapping[str, Tensor], widths: Sequence[int]
) -> dict[str, Tensor]:
    """Return tensors with hidden layers of ``widths`` as those of the stack's own widths."""
    made = {}
    for (name, _), (rows, columns) in zip(stack.form, stack.layers, strict=True):
        tensor = tensors[name]
        if rows is not None:
            tensor = tensor.repeat_interleave(stack.widths[rows] // widths[rows], dim=0)
        if columns is not None:
            factor = stack.widths[columns] // widths[columns]
            tensor = widen_columns(tensor, factor, widths[columns])
        made[name] = tensor
    return made


def narrow_rows(tensor: Float[Tensor, "sD ..."], factor: int) -> Float[Tensor, "D ..."]:
    """Return the means of each ``factor`` neighbouring rows.

    >>> import torch
    >>> narrow_rows(torch.tensor([[1.0, 2], [3, 4], [5, 6], [7, 8]]), 2).tolist()
    [[2.0, 3.0], [6.0, 7.0]]
    """
    return tensor.reshape(-1, factor, *tensor.shape[1:]).mean(dim=1)


def narrow_columns(
    tensor: Float[Tensor, "n sD ..."], factor: int, units: int
) -> Float[Tensor, "n D ..."]:
    """Return the sums over each ``factor`` neighbouring units' columns.

    >>> import torch
    >>> narrow_columns(torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]), 2, 4).tolist()
    [[3.0, 7.0], [11.0, 15.0]]
    >>> narrow_columns(torch.tensor([[1.0, 2, 3, 4]]), 2, 2).tolist()  # two columns for each unit
    [[4.0, 6.0]]
    """
    rows, _, *kernel = tensor.shape
    columns = tensor.reshape(rows, units // factor, factor, -1, *kernel).sum(dim=2)
    return columns.reshape(rows, -1, *kernel)


def widen_columns(
    tensor: Float[Tensor, "n D ..."], factor: int, units: int
) -> Float[Tensor, "n sD ..."]:
    """Return each unit's columns, divided by ``factor``, that many times.

    >>> import torch
    >>> widen_columns(torch.tensor([[2.0, 4.0]]), 2, 2).tolist()
    [[1.0, 1.0, 2.0, 2.0]]
    """
    rows, _, *kernel = tensor.shape
    columns = (tensor / factor).reshape(rows, units, -1, *kernel)
    return columns.repeat_interleave(factor, dim=1).reshape(rows, -1, *kernel)
