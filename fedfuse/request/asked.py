"""Ask a requester, and look at what it says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedfuse.declarations import part_name
from fedfuse.protocols import Requester
from fedfuse.shapes import Bool, Int
from fedfuse.user_code import PartError, kind_of


def asked(
    requester: Requester,
    round: int,  # noqa: A002
    index: Int[Tensor, " m"],
    client_ids: Sequence[int],
) -> Tensor:
    """Return what a requester asks for, checked: bool [m], alike for all, or [k, m].

    Raises:
        PartError: If it is something else, or asks somebody for nothing.
    """
    made = requester(round, index, client_ids)
    common, each = (len(index),), (len(client_ids), len(index))
    sound = isinstance(made, Tensor) and made.dtype == torch.bool
    if not (sound and tuple(made.shape) in (common, each)):
        raise PartError(
            f"The requester {part_name(requester)} did not say what it asks for in round {round}",
            got=kind_of(made),
            allowed=f"bool of shape {list(common)} or {list(each)}",
        )
    if not bool(made.any(dim=-1).all()):
        raise PartError(
            f"The requester {part_name(requester)} asks for nothing in round {round}",
            got="a row without any True",
            allowed="at least one sample for every client",
        )
    return made


def rows_of(wanted: Tensor, num_clients: int) -> Bool[Tensor, "k m"]:
    """Return a row for each client of what is asked of all alike, or of each.

    >>> rows_of(torch.tensor([True, False]), 2).tolist()
    [[True, False], [True, False]]
    """
    return wanted.expand(num_clients, -1)
