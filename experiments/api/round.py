"""One round, and how the thread of its run hands it to a loop of the user's own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from experiments.pack.turns import PackedRun as Turn
from fedfuse.errors import FedfuseError
from fedfuse.exchange.kind import Combine
from fedfuse.payload import Payload
from fedfuse.types import Fusion, MetricRow, RoundRecord, Teachers
from fedfuse.user_code import kind_of
from server.app import ServerSetup
from server.reporters.protocol import RunInfo

if TYPE_CHECKING:
    import pandas as pd


@dataclass(slots=True)
class Round:
    """One round, after the clients have shared and the server has fused.

    Args:
        number: The round, from 1.
        num_rounds: How many there will be.
        knowledge: What the clients shared, a :class:`fedfuse.types.KnowledgeBank` where they share
            predictions; None in warm-up rounds, and where nobody shares.
        teachers: What the configured method made of it, and each client will learn from
            (:class:`fedfuse.types.Teachers`); None likewise.
        weights: Who listens to whom, [K, K], the mean over the classes where that differs by
            class; None where the method has no such weights.
    """

    number: int
    num_rounds: int
    knowledge: Payload | None = None
    teachers: Payload | None = None
    weights: Tensor | None = None
    _rows: list[tuple[str, MetricRow]] = field(default_factory=list, repr=False)

    @property
    def metrics(self) -> pd.DataFrame:
        """The metrics of all rounds before, of all arms, as tidy rows like ``Run.metrics``."""
        import pandas as pd

        from experiments.api.tables import METRICS

        rows = [
            (arm, row.round, row.client_id, row.phase, row.metric, row.value)
            for arm, row in self._rows
        ]
        return pd.DataFrame(rows, columns=METRICS)

    def teach(self, teachers: Teachers) -> None:
        """Let the clients learn from these teachers instead.

        Args:
            teachers: One for each client that the method has one for: targets [K, P, C] for the
                same clients, samples and classes.

        Raises:
            FedfuseError: If they are not, or nothing was shared in this round.
        """
        meant = self.teachers
        if not isinstance(meant, Teachers):
            raise FedfuseError(
                f"There is nobody to teach in round {self.number}",
                got="a round in which no predictions are shared",
                next_step="Look at state.teachers first: it is None in warm-up rounds "
                "(warmup_rounds), and other than Teachers where a method shares something else.",
            )
        if not isinstance(teachers, Teachers):
            raise FedfuseError(
                "state.teach takes teachers",
                got=kind_of(teachers),
                allowed="fedfuse.Teachers",
                next_step="dataclasses.replace makes them of state.teachers, with other targets.",
            )
        shape = list(meant.targets.shape)
        if list(teachers.targets.shape) != shape or not torch.equal(
            teachers.client_ids.cpu(), meant.client_ids.cpu()
        ):
            raise FedfuseError(
                "These are no teachers for the clients of this round",
                got=f"targets {list(teachers.targets.shape)} for the clients "
                f"{teachers.client_ids.tolist()[:10]}",
                allowed=f"targets {shape} for the clients {meant.client_ids.tolist()[:10]}",
            )
        if not bool(torch.isfinite(teachers.targets).all()):
            raise FedfuseError("These teachers hold values that are no finite numbers")
        self.teachers = teachers


class Watcher:
    """A reporter that hands over rounds without a fusion, and remembers what was measured.

    Args:
        turn: The run's turn.
    """

    def __init__(self, turn: Turn) -> None:
        self.turn, self.rows, self.shown = turn, list[tuple[str, MetricRow]](), 0
        self.info: RunInfo | None = None

    def start(self, info: RunInfo) -> None:
        """Take what is known."""
        self.info = info

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Do nothing."""

    def client_done(self, client_id: int) -> None:
        """Do nothing."""

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Remember the round; hand it over if nobody has seen it."""
        assert self.info is not None, "start comes first"
        if arm == self.info.arms[-1] and self.shown < record.round:
            self.hand(Round(record.round, self.info.num_rounds))
        self.rows += [(arm, row) for row in record.metrics]

    def close(self) -> None:
        """Hold on to everything."""

    def hand(self, state: Round) -> Round:
        """Hand a round over and return what became of it."""
        state._rows = list(self.rows)
        self.shown = state.number
        answered: Round = self.turn.ask(state)
        return answered


@dataclass(frozen=True, slots=True)
class Handing:
    """Fuse, and let the user's loop have the last word.

    Args:
        combine: The method.
        watcher: Who hands over.
        num_rounds: Rounds of the run.
    """

    combine: Combine
    watcher: Watcher
    num_rounds: int

    def __call__(self, knowledge: Payload, round_: int) -> Fusion:
        """Return the fusion, with the teachers that the loop left."""
        fusion = self.combine(knowledge, round_)
        state = Round(round_, self.num_rounds, knowledge, fusion.teachers, fusion.weights)
        teachers = self.watcher.hand(state).teachers
        return fusion if teachers is None else replace(fusion, teachers=teachers)


def handing(setup: ServerSetup, watcher: Watcher) -> ServerSetup:
    """Return a run's setup in which its method hands its rounds over."""
    method = setup.info.arms[-1]
    combine = setup.combines[method]
    if combine is None:
        return setup
    own = Handing(combine, watcher, setup.info.num_rounds)
    return replace(setup, combines={**setup.combines, method: own})
