"""What an attack on a run comes to: who attacks, and how much the others listened to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from omegaconf import DictConfig

from experiments.config.instantiate import instantiate
from fedfuse.attack import Attack, AttackStage, adversaries
from fedfuse.rng import Streams
from fedfuse.types import FederatedData, MetricRow
from server.records.round_record import ADVERSARY_WEIGHT


@dataclass(frozen=True, slots=True)
class Attacked:
    """An attack and its adversaries.

    Args:
        attack: Its name.
        adversaries: Who attacks; the figures of a run are of the others.
        num_clients: K.
        weight: Share of their weight that benign clients gave adversaries, mean over clients and
            rounds; None where the method does not weigh clients.
    """

    attack: str
    adversaries: tuple[int, ...]
    num_clients: int
    weight: float | None = None

    def line(self) -> str:
        """Return it in words."""
        who = ", ".join(map(str, self.adversaries[:8]))
        who += ", ..." if len(self.adversaries) > 8 else ""
        text = (
            f"attack {self.attack} by {len(self.adversaries)} of {self.num_clients} clients "
            f"({who}); figures are the others'"
        )
        if self.weight is None:
            return text
        share = len(self.adversaries) / self.num_clients
        return (
            f"{text};\n  they gave adversaries {self.weight:.3f} of their weight "
            f"(an equal share is {share:.3f})"
        )


def build_attack(cfg: DictConfig, data: FederatedData) -> AttackStage | None:
    """Return the attack as a stage of sharing; None if nobody attacks."""
    attack: Attack | None = instantiate(cfg.attack, "attack")
    if attack is None:
        return None
    counts = torch.from_numpy(data.class_counts()).float()
    shares = counts / counts.sum(dim=1, keepdim=True).clamp_min(1)
    who = adversaries(attack.fraction, cfg.num_clients, Streams(cfg.seed))
    return AttackStage(attack, who, shares)


def attackers(cfg: DictConfig) -> tuple[int, ...]:
    """Return who attacks, if anybody does."""
    attack: Attack | None = instantiate(cfg.attack, "attack")
    if attack is None or cfg.num_clients < 2:
        return ()
    return adversaries(attack.fraction, cfg.num_clients, Streams(cfg.seed))


def attacked(cfg: DictConfig, rows: Iterable[MetricRow]) -> Attacked | None:
    """Return what came of the attack; None if nobody attacks."""
    if not (who := attackers(cfg)):
        return None
    given = [row.value for row in rows if row.metric == ADVERSARY_WEIGHT]
    weight = sum(given) / len(given) if given else None
    return Attacked(str(cfg.attack._target_).rsplit(".", 1)[-1], who, cfg.num_clients, weight)
