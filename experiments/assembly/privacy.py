"""What a run's privacy setting comes to: the calibrated mechanism, and what it promises."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import DictConfig

from clients.exchange import Predictions
from experiments.config.instantiate import instantiate
from experiments.config.plain import Settings, complete
from fedfuse.declarations import declared
from fedfuse.errors import ConfigError
from fedfuse.privacy import (
    Calibrated,
    Guarantee,
    LabelOnly,
    Privacy,
    PrivacyStage,
    Temperature,
    TopKOnly,
)
from fedfuse.select import PublicRounds
from fedfuse.user_code import is_foreign

SECRET, SIMULATED = "secret", "simulated"
"""What ``privacy.seed`` may be: noise from secrets of the clients, or from the public seed."""


def draws_from_secrets(cfg: DictConfig) -> bool:
    """Tell whether the clients' noise comes from secrets of theirs."""
    return cfg.privacy._target_ is not None and cfg.privacy.get("seed", SECRET) != SIMULATED


def build_mechanism(node: DictConfig | Settings) -> Privacy | None:
    """Return the mechanism that the configuration names; None for none.

    Raises:
        ConfigError: If it cannot be built, or ``privacy.seed`` is something else than it may be.
    """
    seed = node.get("seed", SECRET)
    if seed not in (SECRET, SIMULATED):
        raise ConfigError(
            "privacy.seed says where a mechanism's noise comes from",
            got=repr(seed),
            allowed=f"{SECRET} (of each client) or {SIMULATED} (from the run's seed, no promise)",
            next_step="Set seed=NUMBER for another run.",
        )
    own = {key: value for key, value in complete(node, "privacy").items() if key != "seed"}
    mechanism: Privacy | None = instantiate(own, "privacy")
    return mechanism


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What left the clients, and what is promised about it.

    Args:
        mechanism: ``none``, or the mechanism's name.
        guarantee: The promise; None where there is none.
        label_histograms: Whether the clients' label histograms left them.
        rounds: Rounds in which clients shared.
        uncovered: What else left that depends on private data and that no mechanism protects.
        simulated: Whether whoever knows the run's seed can take noise off again.
        samples: What left of the private samples themselves, in words; empty for nothing.
    """

    mechanism: str
    guarantee: Guarantee | None
    label_histograms: bool
    rounds: int
    uncovered: tuple[str, ...] = ()
    simulated: bool = False
    samples: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the disclosure as ``summary.json`` keeps it."""
        return asdict(self)

    def line(self) -> str | None:
        """Return the disclosure in words; None where nothing needs to be said."""
        verb = "left" if self.label_histograms else "did not leave"
        told = f"{self.samples or 'label histograms'} {verb} the clients"
        if self.mechanism == "none":
            return told if self.label_histograms else None
        if self.rounds == 0:
            return f"privacy {self.mechanism}: nothing was shared; {told}"
        if self.simulated:
            return (
                f"privacy {self.mechanism}: no epsilon, because the noise comes from the run's\n"
                "  public seed (privacy.seed=simulated), and who knows that takes it off;\n"
                f"  {told}"
            )
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
    mechanism = build_mechanism(cfg.privacy)
    if mechanism is None:
        return None
    asked = queries(cfg, rounds)
    if isinstance(mechanism, Calibrated) and asked:
        mechanism = mechanism.for_queries(sum(asked))
    covered = range(cfg.warmup_rounds + 1, cfg.num_rounds + 1)
    return PrivacyStage(mechanism, not draws_from_secrets(cfg), covered)


def disclosure(
    cfg: DictConfig, rounds: PublicRounds, *, shares: bool, exchange: object = None
) -> Disclosure:
    """Return what leaves the clients of a run and what is promised about it.

    Args:
        cfg: The run's configuration.
        rounds: The public samples of its rounds.
        shares: Whether its clients share at all.
        exchange: What its clients exchange; None for predictions.
    """
    mechanism = build_mechanism(cfg.privacy)
    asked = queries(cfg, rounds) if shares else []
    guarantee = None
    simulated = mechanism is not None and not draws_from_secrets(cfg) and _is_noisy(mechanism)
    if isinstance(mechanism, Calibrated) and asked and not simulated:
        guarantee = mechanism.spent(asked)
    name = "none" if mechanism is None else str(cfg.privacy._target_).rsplit(".", 1)[-1]
    samples = str(declared(exchange, "sends_of_samples", "")) if asked else ""
    told = cfg.client.share_class_distribution and _shows_histograms(exchange)
    told = told or bool(samples) or declared(exchange, "tells_label_counts", False)
    histograms = bool(told) and bool(asked)
    uncovered = ["numbers of samples"]
    uncovered += ["label histograms"] * histograms
    uncovered += ["confidences"] * (cfg.get("familiarity", {}).get("_target_") is not None)
    shown = cfg.get("exchange", {}).get("shown") or {}
    uncovered += ["mean predictions"] * bool(shown.get("estimate") and asked)
    uncovered += ["choice of samples"] * any(
        cfg.get(slot, {}).get("_target_") is not None for slot in ("answer", "wish")
    )
    given = name.lower(), guarantee, histograms, len(asked), tuple(uncovered), simulated
    return Disclosure(*given, samples)


def _shows_histograms(exchange: object) -> bool:
    """Tell whether what an exchange sends has a place for label histograms, if they may leave."""
    return exchange is None or isinstance(exchange, Predictions) or is_foreign(exchange)


def _is_noisy(mechanism: Privacy) -> bool:
    """Tell whether a mechanism draws anything, as far as anybody can tell."""
    return not isinstance(mechanism, LabelOnly | TopKOnly | Temperature)
