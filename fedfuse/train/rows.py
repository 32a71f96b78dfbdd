"""Many clients' tensors as the rows of one matrix, without the clients noticing.

A module's parameters, and an optimiser's moments, become views into one row of a matrix that all
clients share. Whoever reads or writes a client's tensors (a checkpoint, the loop trainer) goes on
as before; whoever has the matrix moves all clients with one operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor


def as_rows(clients: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the matrix [K, D] of which each client's tensors are one row, in the given order.

    Tensors that already lie so are left where they are, and the matrix is a view of them; others
    are copied into a new one and made views of it. They keep identity, shape and values, and lose
    their memory format.

    Args:
        clients: K clients with the same tensors each, D elements in all, one dtype and device.

    >>> a, b = [torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])]
    >>> rows = as_rows([a, b])
    >>> rows[1] += 1
    >>> b[0], as_rows([a, b]).data_ptr() == rows.data_ptr()
    (tensor([4., 5.]), True)
    """
    there = _found(clients)
    if there is not None:
        return there
    rows = torch.stack([_row(tensors) for tensors in clients])
    for row, tensors in zip(rows, clients, strict=True):
        for tensor, piece in zip(tensors, pieces(row, tensors), strict=True):
            tensor.data = piece
    return rows


def _row(tensors: Sequence[Tensor]) -> Tensor:
    """Return one client's tensors in a row [D]; no copy if they are a row of some matrix."""
    there = _found([tensors])
    if there is not None:
        return there[0]
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def pieces(rows: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return the views of ``rows`` [..., D] that have the shapes of ``like``, [..., *shape] each.

    Autograd sees one split, whose gradient is one concatenation.
    """
    parts = torch.split(rows, [tensor.numel() for tensor in like], dim=-1)
    lead = rows.shape[:-1]
    return [part.view((*lead, *tensor.shape)) for part, tensor in zip(parts, like, strict=True)]


def _found(clients: Sequence[Sequence[Tensor]]) -> Tensor | None:
    """Return the matrix whose rows the clients' tensors already are, or None.

    Asked several times a phase about every tensor of every client, so it compares addresses only:
    within one storage an address says where a tensor lies, and views are laid out here alone.
    """
    first = clients[0][0]
    if not all(tensor.is_contiguous() for tensor in clients[0]):
        return None
    size, begin = first.element_size(), first.data_ptr()
    *offsets, width = accumulate((tensor.numel() for tensor in clients[0]), initial=0)
    after = (first.storage_offset() + len(clients) * width) * size
    if after > first.untyped_storage().nbytes():
        return None
    places = [begin + size * offset for offset in offsets]
    for tensors in clients:
        if [tensor.data_ptr() for tensor in tensors] != places:
            return None
        places = [place + size * width for place in places]
    return first.detach().as_strided((len(clients), width), (width, 1), first.storage_offset())
