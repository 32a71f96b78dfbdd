"""The state of several clients as one, and of one out of several."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedfuse.codec.protocol import State
from fedfuse.shapes import Int


def stack_states(states: Sequence[State]) -> State:
    """Return the states of several clients as one; a client without any starts from zeros.

    Zeros are what every codec takes for "nothing sent yet".

    >>> stack_states([{"messages": torch.tensor([3])}, {}])
    {'messages': tensor([3, 0])}
    """
    known = next((state for state in states if state), None)
    if known is None:
        return {}
    return {
        name: torch.cat([state.get(name, torch.zeros_like(tensor[:1])) for state in states])
        for name, tensor in known.items()
    }


def state_rows(state: State, index: Int[Tensor, " k"]) -> State:
    """Return the state of the clients at the positions ``index``, in that order."""
    return {name: tensor[index] for name, tensor in state.items()}
