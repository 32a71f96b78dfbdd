"""What faults came to: who answered, and what happened to the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from omegaconf import DictConfig

from fedfuse.types import MetricRow
from server.faults import COUNTS, PARTICIPANTS


@dataclass(frozen=True, slots=True)
class Faulted:
    """The faults of a run, counted over all its rounds.

    Args:
        faults: Their name; empty if clients were only chosen.
        num_clients: K.
        participants: Clients whose upload counted, mean over the rounds.
        empty_rounds: Rounds in which nobody's did.
        counts: What happened how often.
    """

    faults: str
    num_clients: int
    participants: float
    empty_rounds: int
    counts: dict[str, int]

    def line(self) -> str:
        """Return it in words."""
        head = f"faults {self.faults}: " if self.faults else ""
        text = f"{head}{self.participants:.1f} of {self.num_clients} clients took part in a round"
        if self.empty_rounds:
            text += f", in {self.empty_rounds} nobody did"
        happened = ", ".join(
            f"{name.replace('_', ' ')} {count}" for name, count in self.counts.items()
        )
        return f"{text}\n  ({happened})" if happened else text


def faulted(cfg: DictConfig, rows: Iterable[MetricRow]) -> Faulted | None:
    """Return what happened in the method's arm; None if everybody was there all the time."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row.metric == PARTICIPANTS or row.metric in COUNTS:
            values.setdefault(row.metric, []).append(row.value)
    there = values.pop(PARTICIPANTS, [])
    if not there:
        return None
    target = cfg.faults._target_
    return Faulted(
        faults="" if target is None else str(target).rsplit(".", 1)[-1],
        num_clients=cfg.num_clients,
        participants=sum(there) / len(there),
        empty_rounds=sum(value == 0 for value in there),
        counts={name: int(sum(values[name])) for name in COUNTS if name in values},
    )
