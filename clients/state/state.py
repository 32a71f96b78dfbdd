"""What a client remembers between messages: its model and its optimisers, in one place.

The random streams need no memory: each is derived from seed, client, round and purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fedfuse.errors import FedfuseError

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(slots=True)
class ClientState:
    """One client's live model and optimisers, and whatever else it remembers.

    Args:
        model: The model.
        optimizers: By purpose; a purpose that shares another's optimiser has no entry.
        extras: Tensors by name, ``PART/NAME``: what the stages of sharing keep from round to round.
        twin: The client as it would be had it learned alone; None where nobody asks.
    """

    model: nn.Module
    optimizers: dict[str, torch.optim.Optimizer] = field(default_factory=dict)
    extras: dict[str, Tensor] = field(default_factory=dict)
    twin: ClientState | None = None

    def optimizer(self, purpose: str, make: OptimizerFactory) -> torch.optim.Optimizer:
        """Return the optimiser kept for ``purpose``, made on first use."""
        if purpose not in self.optimizers:
            self.optimizers[purpose] = make(self.model.parameters())
        return self.optimizers[purpose]

    def forget_optimizers(self) -> None:
        """Drop the optimisers' state; the next use starts them afresh."""
        self.optimizers.clear()
        if self.twin is not None:
            self.twin.forget_optimizers()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything remembered as one flat mapping, names to tensors (shared memory).

        A slot without a value (a momentum not yet used) has no entry.

        Names: ``model/<parameter or buffer>``, ``optimizer/<purpose>/<index>/<slot>``,
        ``extra/<name>``, and ``twin/`` before those of the twin.
        """
        flat = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        flat.update({f"extra/{name}": value for name, value in self.extras.items()})
        for purpose, optimizer in self.optimizers.items():
            for index, slots in optimizer.state_dict()["state"].items():
                for slot, value in slots.items():
                    if value is None:  # SGD without momentum
                        continue
                    flat[f"optimizer/{purpose}/{index}/{slot}"] = torch.as_tensor(value)
        if self.twin is not None:
            flat |= {f"twin/{name}": value for name, value in self.twin.tensors().items()}
        return flat

    def restore(self, flat: dict[str, Tensor], make: OptimizerFactory) -> None:
        """Load what :meth:`tensors` returned into this client's model and optimisers.

        Raises:
            FedfuseError: If it is something else, or of another model.
        """
        try:
            self._restore(flat, make)
        except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
            raise FedfuseError(
                "A saved state does not fit its client",
                got=" ".join(str(error).split())[:200] or type(error).__name__,
                allowed="the model and the optimiser that it was saved with",
                next_step="Resume with the version that wrote it, or start the run anew.",
            ) from error

    def _restore(self, flat: dict[str, Tensor], make: OptimizerFactory) -> None:
        if self.twin is not None:
            theirs = {name: value for name, value in flat.items() if name.startswith("twin/")}
            flat = {name: value for name, value in flat.items() if name not in theirs}
            self.twin._restore({name[5:]: value for name, value in theirs.items()}, make)
        weights: dict[str, Tensor] = {}
        self.extras.clear()
        slots: dict[str, dict[int, dict[str, Tensor]]] = {}
        for name, value in flat.items():
            kind, rest = name.split("/", 1)
            if kind == "model":
                weights[rest] = value
            elif kind == "extra":
                # Where a file or a message begins is no place to reckon from: kernels round
                # otherwise where memory is not aligned. Models and optimisers are copied below.
                self.extras[rest] = value.clone()
            else:
                purpose, index, slot = rest.split("/")
                slots.setdefault(purpose, {}).setdefault(int(index), {})[slot] = value
        self.model.load_state_dict(weights)
        self.optimizers.clear()
        for purpose, state in slots.items():
            optimizer = self.optimizer(purpose, make)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            if optimizer.defaults.get("fused"):
                _check_alike(optimizer, state, parameters)
            laid_out = {
                index: {slot: _like(value, parameters[index]) for slot, value in kept.items()}
                for index, kept in state.items()
            }
            optimizer.load_state_dict({**optimizer.state_dict(), "state": laid_out})


def _check_alike(
    optimizer: torch.optim.Optimizer,
    state: dict[int, dict[str, Tensor]],
    parameters: Sequence[nn.Parameter],
) -> None:
    """Raise unless the moments are complete and have their parameters' shapes.

    Fused kernels do not look.
    """
    adam = isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)
    needed = {"step", "exp_avg", "exp_avg_sq"} if adam else set[str]()
    if any(not needed <= set(slots) for slots in state.values()):
        raise ValueError(f"an optimiser without one of {', '.join(sorted(needed))}")
    for index, slots in state.items():
        for slot, value in slots.items():
            wanted = () if slot == "step" else tuple(parameters[index].shape)
            if tuple(value.shape) != wanted or not value.is_floating_point():
                raise ValueError(f"'{slot}' of {value.dtype} {list(value.shape)} for {wanted}")


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a copy of an optimiser's tensor in its parameter's memory layout.

    Fused optimisers walk a parameter and its moments side by side, and what was saved is plain.
    """
    if value.shape != parameter.shape:
        return value.clone()
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
