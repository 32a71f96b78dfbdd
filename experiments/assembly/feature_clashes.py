"""What does not go with features and prototypes beside the predictions, or models of the past."""

from __future__ import annotations

from functools import partial

from clients.exchange import FeaturePredictions, Predictions
from clients.exchange.fccl import NearPastModels
from experiments.assembly.chosen import Chosen, Clash
from fedfuse.attack import LabelFlip, PermutedLabels
from fedfuse.train.own_loss import learns_by_client


def _beside(chosen: Chosen) -> bool:
    return isinstance(chosen.part("exchange"), FeaturePredictions)


def _with(chosen: Chosen, slot: str) -> str | None:
    chose = _beside(chosen) and chosen.cfg[slot]._target_ is not None
    return chosen.named(slot, "exchange") if chose else None


def _written(chosen: Chosen) -> str | None:
    if (named := _with(chosen, "codec")) is None:
        return None
    if (width := chosen.cfg.exchange.get("width", "")) == "":
        return named
    return f"{named}, exchange.width={'null' if width is None else width}"


def _smaller(chosen: Chosen) -> str:
    saves = "; a smaller exchange.width saves bytes, too" * ("width" in chosen.cfg.exchange)
    return f"Set codec=none, or exchange=predictions{saves}."


def _shares_nothing(chosen: Chosen) -> str | None:
    past = isinstance(chosen.part("exchange"), NearPastModels)
    return chosen.named("rule", "exchange") if past and not chosen.fuses else None


def _unfused(chosen: Chosen) -> str | None:
    alone = _beside(chosen) and not chosen.fuses
    return chosen.named("exchange", "rule") if alone else None


def _lies_in_labels(chosen: Chosen) -> bool:
    return isinstance(chosen.part("attack"), LabelFlip | PermutedLabels)


def _forged(chosen: Chosen) -> str | None:
    return None if _lies_in_labels(chosen) else _with(chosen, "attack")


def _honest_estimate(chosen: Chosen) -> str | None:
    exchange, attacked = chosen.part("exchange"), chosen.cfg.attack._target_ is not None
    told = isinstance(exchange, Predictions) and exchange.also_up
    wrong = told and attacked and not _lies_in_labels(chosen)
    return f"{chosen.named('attack')}, exchange.shown.estimate=true" if wrong else None


def _own_loss(chosen: Chosen) -> str | None:
    learns = _beside(chosen) and chosen.fuses and learns_by_client(chosen.part("distill"))
    return chosen.named("distill", "exchange") if learns else None


OF_FEATURES = (
    Clash(
        "Features and prototypes go with fused predictions, and this method fuses none",
        _unfused,
        "Set rule=mean_probs, or exchange=predictions.",
    ),
    Clash(
        "A codec writes predictions, and what goes with them would travel as it is, 4 bytes for "
        "each number",
        _written,
        _smaller,
    ),
    Clash(
        "A cache keeps fused predictions, and not what goes with them",
        partial(_with, slot="cache"),
        "Set cache=none, or exchange=predictions.",
    ),
    Clash(
        "A privacy mechanism protects predictions, and features or prototypes would leave bare",
        partial(_with, slot="privacy"),
        "Set privacy=none, or exchange=predictions.",
    ),
    Clash(
        "An attack forges predictions, and the features or prototypes beside them would be honest",
        _forged,
        "Set attack=none, label_flip or permuted_labels, or exchange=predictions.",
    ),
    Clash(
        "An attack forges predictions, and the mean prediction that goes with aligned rows "
        "would be honest",
        _honest_estimate,
        "Set exchange.shown.estimate=false, or attack=none, label_flip or permuted_labels.",
    ),
    Clash(
        "A loss that clients learn for themselves asks their models for logits alone",
        _own_loss,
        "Set distill=kl, or exchange=predictions.",
    ),
    Clash(
        "Clients keep near models that they were when they shared, and this method shares nothing",
        _shares_nothing,
        "Choose method=fccl or method=fccl_plus, or exchange=predictions.",
    ),
)
