"""What codecs remember about each client, on the side that talks to many of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from fedfuse.codec.protocol import State
from fedfuse.codec.state import stack_states, state_rows


class CodecMemory:
    """The codec states of many clients, one direction.

    A client without a state starts from nothing, as one does whose messages were lost.
    """

    def __init__(self) -> None:
        self._states: dict[int, State] = {}

    def of(self, client_ids: Sequence[int]) -> State:
        """Return the state of these clients, in this order."""
        return stack_states([self._states.get(i, {}) for i in client_ids])

    def keep(self, client_ids: Sequence[int], state: State) -> None:
        """Remember the state of these clients."""
        if state:
            for row, client_id in enumerate(client_ids):
                self._states[client_id] = state_rows(state, torch.tensor([row]))

    def forget(self, client_ids: Iterable[int]) -> None:
        """Start these clients anew."""
        for client_id in client_ids:
            self._states.pop(client_id, None)

    def messages(self, client_ids: Sequence[int]) -> list[int]:
        """Return how many messages of each client are remembered; 0 for none."""
        states = [self._states.get(i, {}) for i in client_ids]
        return [int(state["messages"]) if "messages" in state else 0 for state in states]

    def state(self) -> dict[str, Tensor]:
        """Return everything as named tensors, ``CLIENT/NAME``."""
        return {
            f"{client_id}/{name}": tensor
            for client_id, state in self._states.items()
            for name, tensor in state.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`state` returned."""
        self._states.clear()
        for key, tensor in state.items():
            client_id, name = key.split("/", 1)
            self._states.setdefault(int(client_id), {})[name] = tensor
