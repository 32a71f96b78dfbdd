"""What a run's privacy setting comes to: the calibrated mechanism, and what it promises."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import DictConfig

from experiments.instantiate import instantiate
from fedfuse.privacy import Calibrated, Guarantee, Privacy, PrivacyStage
from fedfuse.select import PublicRounds


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What left the clients, and what is promised about it.

    Args:
        mechanism: ``none``, or the mechanism's name.
        guarantee: The promise; None where there is none.
        label_histograms: Whether the clients' label histograms left them.
        rounds: Rounds in which predictions were shared.
        uncovered: What else left that depends on private data and that no mechanism protects.
    """

    mechanism: str
    guarantee: Guarantee | None
    label_histograms: bool
    rounds: int
    uncovered: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the disclosure as ``summary.json`` keeps it."""
        return asdict(self)

    def line(self) -> str | None:
        """Return the disclosure in words; None where nothing needs to be said."""
        histograms = "left" if self.label_histograms else "did not leave"
        told = f"label histograms {histograms} the clients"
        if self.mechanism == "none":
            return told if self.label_histograms else None
        if self.rounds == 0:
            return f"privacy {self.mechanism}: nothing was shared; {told}"
        if self.guarantee is None:
            return f"privacy {self.mechanism}: no guarantee; {told}"
        promise = self.guarantee
        return (
            f"privacy {self.mechanism}: epsilon {promise.epsilon:.4g}, delta {promise.delta:.2g} "
            f"per client, spent on\n  {promise.num_queries} predictions in {self.rounds} rounds "
            f"(one round alone: epsilon {promise.epsilon_round:.3g});\n  noise "
            f"{promise.noise:.3g} on logits of norm at most {promise.clip:g};\n  {told}\n"
            f"  not covered: {', '.join(self.uncovered)}"
        )


def queries(cfg: DictConfig, rounds: PublicRounds) -> list[int]:
    """Return how many predictions each client releases in every round that shares, at most."""
    first = cfg.warmup_rounds + 1
    return [rounds.size(round_) for round_ in range(first, cfg.num_rounds + 1)]


def build_privacy(cfg: DictConfig, rounds: PublicRounds) -> PrivacyStage | None:
    """Return the mechanism, its noise calibrated to the whole run; None for none."""
    mechanism: Privacy | None = instantiate(cfg.privacy, "privacy")
    if mechanism is None:
        return None
    asked = queries(cfg, rounds)
    if isinstance(mechanism, Calibrated) and asked:
        mechanism = mechanism.for_queries(sum(asked))
    return PrivacyStage(mechanism)


def disclosure(cfg: DictConfig, rounds: PublicRounds, *, shares: bool) -> Disclosure:
    """Return what leaves the clients of a run and what is promised about it.

    Args:
        cfg: The run's configuration.
        rounds: The public samples of its rounds.
        shares: Whether its clients share at all.
    """
    mechanism: Privacy | None = instantiate(cfg.privacy, "privacy")
    asked = queries(cfg, rounds) if shares else []
    guarantee = None
    if isinstance(mechanism, Calibrated) and asked:
        guarantee = mechanism.spent(asked)
    name = "none" if mechanism is None else str(cfg.privacy._target_).rsplit(".", 1)[-1]
    histograms = bool(cfg.client.share_class_distribution) and bool(asked)
    uncovered = ["numbers of samples"]
    uncovered += ["label histograms"] * histograms
    uncovered += ["confidences"] * (cfg.get("familiarity", {}).get("_target_") is not None)
    return Disclosure(name.lower(), guarantee, histograms, len(asked), tuple(uncovered))
