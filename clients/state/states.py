"""What every client that a process has touched remembers, for one arm of a run at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from clients.state.state import ClientState, OptimizerFactory
from clients.state.state_store import Place
from fedfuse.errors import FedfuseError


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
