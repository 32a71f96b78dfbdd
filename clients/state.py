"""What a client remembers between messages: its model and its optimisers, in one place.

The random streams need no memory: each is derived from seed, client, round and purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(slots=True)
class ClientState:
    """One client's live model and optimisers.

    Args:
        model: The model.
        optimizers: By purpose; a purpose that shares another's optimiser has no entry.
    """

    model: nn.Module
    optimizers: dict[str, torch.optim.Optimizer] = field(default_factory=dict)

    def optimizer(self, purpose: str, make: OptimizerFactory) -> torch.optim.Optimizer:
        """Return the optimiser kept for ``purpose``, made on first use."""
        if purpose not in self.optimizers:
            self.optimizers[purpose] = make(self.model.parameters())
        return self.optimizers[purpose]

    def forget_optimizers(self) -> None:
        """Drop the optimisers' state; the next use starts them afresh."""
        self.optimizers.clear()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything remembered as one flat mapping, names to tensors (shared memory).

        Names: ``model/<parameter or buffer>`` and ``optimizer/<purpose>/<index>/<slot>``.
        """
        flat = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        for purpose, optimizer in self.optimizers.items():
            for index, slots in optimizer.state_dict()["state"].items():
                for slot, value in slots.items():
                    flat[f"optimizer/{purpose}/{index}/{slot}"] = torch.as_tensor(value)
        return flat

    def restore(self, flat: dict[str, Tensor], make: OptimizerFactory) -> None:
        """Load what :meth:`tensors` returned into this client's model and optimisers."""
        weights: dict[str, Tensor] = {}
        slots: dict[str, dict[int, dict[str, Tensor]]] = {}
        for name, value in flat.items():
            kind, rest = name.split("/", 1)
            if kind == "model":
                weights[rest] = value
            else:
                purpose, index, slot = rest.split("/")
                slots.setdefault(purpose, {}).setdefault(int(index), {})[slot] = value
        self.model.load_state_dict(weights)
        self.optimizers.clear()
        for purpose, state in slots.items():
            optimizer = self.optimizer(purpose, make)
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


class ClientStates:
    """The states of the clients that this process has touched, for one arm of a run at a time.

    A run may train the same federation twice (the method and its local baseline). The arms run
    one after the other, so naming a new arm frees the memory of the one before.
    """

    def __init__(self) -> None:
        self._arm: str | None = None
        self._states: dict[int, ClientState] = {}

    def get(self, arm: str, client_id: int, make: Callable[[], ClientState]) -> ClientState:
        """Return the client's state, made on first use."""
        if arm != self._arm:
            self._states.clear()
            self._arm = arm
        if client_id not in self._states:
            self._states[client_id] = make()
        return self._states[client_id]
