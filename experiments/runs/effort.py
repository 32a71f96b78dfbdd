"""How much the runs of a sweep compute, as far as their configurations tell, and the time left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from time import monotonic

from omegaconf import DictConfig

from experiments.config.comparison_keys import baseline_identity
from experiments.config.prior_use import controls, trains_otherwise

UNKNOWN = 300
"""Private samples of a client where only the data set knows."""


def effort(cfg: DictConfig, samples: int, *, fuses: bool) -> float:
    """Return how much one arm of a run computes, in samples that go forward through a model.

    A training step costs three passes of its samples, a test or a prediction one. Local training
    in the place of distillation is counted like distillation itself.

    Args:
        cfg: The run.
        samples: Private samples of a client.
        fuses: Whether the arm distils, or trains alone for as many steps.
    """
    client, rounds = cfg.client, cfg.num_rounds
    public = int(cfg.public.get("size") or 1000)
    steps = client.distill_epochs * math.ceil(public / client.distill_batch_size)
    private = 3 * steps * client.batch_size
    taught = 3 * client.distill_epochs * public + public
    taught += private if client.private_weight > 0 else 0
    round_ = 3 * client.local_epochs * samples + 2 * cfg.evaluation.test_samples
    round_ += taught if fuses else private
    return float(cfg.num_clients * rounds * round_)


class SweepClock:
    """The time left of a sweep whose runs come one after the other.

    Args:
        configs: All its runs.
        todo: The numbers of those that are to be run, in their order.
    """

    def __init__(self, configs: Sequence[DictConfig], todo: Sequence[int]) -> None:
        self._work = dict(zip(todo, _works([configs[number] for number in todo]), strict=True))
        self._spent = self._done = 0.0
        self._number, self._begun = -1, 0.0

    def begin(self, number: int) -> str:
        """Note that a run begins; return what is known of the time left, as text."""
        self.end()
        self._number, self._begun = number, monotonic()
        left = self._rest(0.0, 0.0, including=True)
        return "" if left is None else f" (about {_clock(left)} left)"

    def end(self) -> None:
        """Note that the run has ended."""
        if self._number in self._work:
            self._done += self._work.pop(self._number)
            self._spent += monotonic() - self._begun
        self._number = -1

    def remaining(self, seconds: float) -> str:
        """Return what to show beside a run that will take so many seconds as a whole."""
        others = len(self._work) - (self._number in self._work)
        left = self._rest(seconds, self._work.get(self._number, 0.0), including=False)
        if left is None or not others:
            return ""
        return f"; {others} more run{'s' * (others > 1)}, about {_clock(left)}"

    def _rest(self, seconds: float, work: float, *, including: bool) -> float | None:
        """Return the seconds of the runs to come, with or without the one at hand."""
        rest = sum(amount for n, amount in self._work.items() if including or n != self._number)
        known = self._done + work
        return rest * (self._spent + seconds) / known if known else None


def _works(configs: Sequence[DictConfig]) -> list[float]:
    """Return the work of each run; a baseline counts where it is trained first."""
    trained: set[str] = set()
    works = []
    for cfg in configs:
        samples = _samples(cfg.partitioner)
        alone = cfg.rule._target_ is None and cfg.exchange._target_ == PREDICTIONS
        work = effort(cfg, samples, fuses=not alone)
        for arm in () if alone and not trains_otherwise(cfg) else controls(cfg):
            if arm != cfg.method.name:
                name = baseline_identity(cfg, "", arm)
                work += 0 if name in trained else effort(cfg, samples, fuses=False)
                trained.add(name)
        works.append(work)
    return works


PREDICTIONS = "clients.exchange.Predictions"


def _samples(partitioner: Mapping[str, object]) -> int:
    sizes = partitioner.get("sizes") or partitioner.get("samples")
    return sizes if type(sizes) is int else UNKNOWN


def _clock(seconds: float) -> str:
    from server.reporters.figures import clock

    return clock(seconds)
