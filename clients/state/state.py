"""What a client remembers between messages: its model and its optimisers, in one place.

The random streams need no memory: each is derived from seed, client, round and purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from clients.state.state_store import Place
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


class ClientStates:
    """The states of the clients that this process has touched, for one arm of a run at a time.

    A run may train the same federation twice (the method and its local baseline). The arms run
    one after the other, so naming a new arm frees the memory of the one before.

    With a place (:mod:`clients.state.state_store`) every state is also kept there, and what is in
    this process is a cache: used while it is the version that counts, and bounded.

    Args:
        limit: Bytes of states that stay in this process between messages, if there is a place.
    """

    def __init__(self, limit: int = 512 * 2**20) -> None:
        self._limit = limit
        self._arm: str | None = None
        self._states: dict[int, ClientState] = {}
        self._tokens: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._held = 0
        self._place: Place | None = None
        self._make_optimizer: OptimizerFactory | None = None

    def open(
        self, place: Place | None, client_ids: Iterable[int], make_optimizer: OptimizerFactory
    ) -> None:
        """Begin a message to ``client_ids`` whose states wait at ``place``."""
        self._place, self._make_optimizer = place, make_optimizer
        if place is not None and self._held >= self._limit:
            # Probably other nodes' clients, whom another process has meanwhile.
            for client_id in set(self._states) - set(client_ids):
                self._drop(client_id)

    def get(self, arm: str, client_id: int, make: Callable[[bool], ClientState]) -> ClientState:
        """Return the client's state, made on first use.

        Args:
            arm: The arm.
            client_id: The client.
            make: Makes its state; is told whether the client is new, or what it remembers is read
                into that state next.
        """
        if arm != self._arm:
            for each in list(self._states):
                self._drop(each)
            self._arm = arm
        token = 0 if self._place is None else self._place.token(client_id)
        if not self._is_current(client_id, token):
            self._drop(client_id)
            state = make(not token)
            if token:
                assert self._place is not None
                assert self._make_optimizer is not None
                state.restore(self._place.read(client_id), self._make_optimizer)
            self._states[client_id] = state
        # What is being trained is no version any more, until it is saved.
        self._tokens[client_id] = -1 if self._place is not None else 0
        return self._states[client_id]

    def saved(self, arm: str, client_id: int) -> dict[str, Tensor]:
        """Return all that a client remembers; nothing if it has not done anything yet."""
        if self._place is not None:
            token = self._place.token(client_id)
            if not token:
                return {}
            if self._tokens.get(client_id) != token:
                return self._place.read(client_id)
        known = arm == self._arm and client_id in self._states
        return self._states[client_id].tensors() if known else {}

    def tokens(self, client_ids: Iterable[int]) -> list[int]:
        """Return which version of each client's state counts; 0 for none.

        Raises:
            FedfuseError: If states have no place.
        """
        if self._place is None:
            raise FedfuseError("The clients' states do not wait in files")
        return [self._place.token(client_id) for client_id in client_ids]

    def restore(
        self, client_id: int, tensors: dict[str, Tensor], make_optimizer: OptimizerFactory
    ) -> None:
        """Let a client that is at work remember what :meth:`saved` returned."""
        self._states[client_id].restore(tensors, make_optimizer)
        self.save(client_id)

    def forget(self, arm: str, client_id: int) -> None:
        """Let a client's next state be a new one."""
        if arm == self._arm:
            self._drop(client_id)
        if self._place is not None:
            self._place.forget(client_id)

    @contextmanager
    def looked_at(self, arm: str, client_ids: Sequence[int], *, keep_new: bool) -> Iterator[None]:
        """Leave no trace of a block that only looks at clients: nothing new is remembered of them.

        Args:
            arm: The arm.
            client_ids: Whom the block looks at.
            keep_new: Whether those who remembered nothing keep what the block made for them.
        """
        place = self._place
        tokens = {i: 0 if place is None else place.token(i) for i in client_ids}
        held = {i for i in client_ids if arm == self._arm and self._is_current(i, tokens[i])}
        yield
        for client_id, token in tokens.items():
            if client_id in held:
                self._tokens[client_id] = token
            elif token or not keep_new:
                self._drop(client_id)

    def _is_current(self, client_id: int, token: int) -> bool:
        """Tell whether what this process holds of a client is the version that counts."""
        return client_id in self._states and self._tokens.get(client_id, 0) == token

    def memory(self, client_id: int) -> dict[str, Tensor]:
        """Return what a client that is at work remembers beside its model and optimisers."""
        return self._states[client_id].extras

    def twin(self, client_id: int) -> ClientState:
        """Return the local twin of a client that is at work."""
        twin = self._states[client_id].twin
        assert twin is not None, "a node with a guard that deploys gives every client one"
        return twin

    def mark(self, arm: str, client_ids: Iterable[int]) -> dict[int, dict[str, Tensor]]:
        """Return copies of the clients' states as they are now, for :meth:`rewind`.

        Where states wait at a place, the version there is the copy.
        """
        if self._place is not None or arm != self._arm:
            return {}
        return {
            client_id: {name: t.clone() for name, t in self._states[client_id].tensors().items()}
            for client_id in client_ids
            if client_id in self._states
        }

    def rewind(
        self,
        client_ids: Iterable[int],
        marked: dict[int, dict[str, Tensor]],
        make_optimizer: OptimizerFactory,
    ) -> None:
        """Undo what was done to the clients since :meth:`mark`; who had no state has none again."""
        for client_id in client_ids:
            if client_id in marked:
                self._states[client_id].restore(marked[client_id], make_optimizer)
            else:
                self._drop(client_id)

    def save(self, client_id: int) -> None:
        """Keep the state of a client that has finished a phase, if there is a place for it."""
        if self._place is None or client_id not in self._states:
            return
        if self._is_current(client_id, self._place.token(client_id)):
            return  # it was looked at, no more
        state = self._states[client_id]
        for each in (state, state.twin):  # a third of what a resting client would hold
            if each is not None:
                each.model.zero_grad(set_to_none=True)
        tensors = state.tensors()
        self._tokens[client_id] = self._place.write(client_id, tensors)
        size = sum(value.nbytes for value in tensors.values())
        self._held += size - self._sizes.get(client_id, 0)
        self._sizes[client_id] = size
        if self._held > self._limit:
            self._drop(client_id)

    def close(self) -> None:
        """End the message: what was saved counts."""
        if self._place is not None:
            self._place.commit()
        self._place = None

    def _drop(self, client_id: int) -> None:
        self._states.pop(client_id, None)
        self._tokens.pop(client_id, None)
        self._held -= self._sizes.pop(client_id, 0)
