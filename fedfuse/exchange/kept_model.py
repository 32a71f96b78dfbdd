"""A small model that the server trains on what clients send, and keeps from round to round."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from fedfuse.errors import FedfuseError
from fedfuse.rng import Streams
from fedfuse.train.loop import fit
from fedfuse.train.work import SampleLoss, Schedule, Work, schedule, steps_per_epoch

Optimizer = Callable[..., torch.optim.Optimizer]


def require_finite(name: str, round_: int, loss: float, left: Iterable[Tensor]) -> None:
    """Raise FedfuseError if training on the server left a loss, or anything, that is no number.

    The loss is that before the last step: what that has broken shows in what is left.

    Args:
        name: What was trained.
        round_: When.
        loss: Its mean over the steps.
        left: What would travel, or be kept.
    """
    finite = all(bool(value.isfinite().all()) for value in left)
    if not (finite and math.isfinite(loss)):
        raise FedfuseError(
            f"Training of the server's {name} diverged in round {round_}",
            got=f"loss {loss}" if finite else f"loss {loss}, and numbers beyond all others",
            allowed="finite numbers",
            next_step="Lower its learning rate, which is a key of the exchange.",
        )


class KeptModel:
    """The model; only its state outlives a round, each begins with a fresh optimiser.

    Args:
        name: What it is, for messages and streams.
        make: Makes it; its weights are drawn from a stream of its own.
        streams: The run's random streams.
    """

    def __init__(self, name: str, make: Callable[[], nn.Module], streams: Streams) -> None:
        self.name, self.streams = name, streams
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(streams.entropy("init", "exchange", name))
            self.model = make()

    def generator(self, round_: int) -> torch.Generator:
        """Return what a round draws from, at its start."""
        return self.streams.torch("server", self.name, round_)

    def epochs(self, num_samples: int, batch_size: int, epochs: int, round_: int) -> Schedule:
        """Return so many passes over what came, in an order of the round's own."""
        steps = epochs * steps_per_epoch(num_samples, batch_size)
        return schedule(num_samples, batch_size, steps, self.generator(round_))

    def learn(
        self,
        inputs: Tensor,
        targets: Tensor,
        loss: SampleLoss,
        steps: Schedule,
        optimizer: Optimizer,
        round_: int,
    ) -> int:
        """Take the steps of a round; return how many.

        Raises:
            FedfuseError: If the loss, or a weight that would travel, is no finite number any more.
        """
        with torch.random.fork_rng(devices=[]):
            entropy = self.streams.entropy("server", self.name, round_, "layers")
            work = Work(inputs, targets, loss, steps, entropy=entropy)
            found = fit(self.model, optimizer(self.model.parameters()), work)
        if steps.num_steps:
            require_finite(self.name, round_, found, self.model.state_dict().values())
        return steps.num_steps

    def state(self) -> dict[str, Tensor]:
        """Return a copy of its weights and buffers."""
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        self.model.load_state_dict(dict(state))
