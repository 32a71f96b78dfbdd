"""What goes with the use of the clients' label priors, and what each arm may be called then."""

from __future__ import annotations

from omegaconf import DictConfig

from experiments.assembly.chosen import Chosen, Clash
from experiments.config.prior_use import (
    BALANCED,
    BASELINE,
    PLAIN_LOSS,
    trains_otherwise,
    uses_prior,
)
from fedfuse.compare import ADJUSTED
from fedfuse.declarations import declared
from fedfuse.local_loss import trained_tau


def _called_local(chosen: Chosen) -> str | None:
    cfg, learns = chosen.cfg, chosen.fuses or not chosen.predicts
    if cfg.method.name == ADJUSTED:
        return "" if learns or not _as_control(cfg) else None
    other = learns or trains_otherwise(cfg)
    return "" if other and cfg.baseline != "none" and cfg.method.name == BASELINE else None


def _as_control(cfg: DictConfig) -> bool:
    """Tell whether a method does about priors what the control beside other methods does."""
    loss, prior = cfg.local_loss, cfg.prior
    if loss._target_ != BALANCED or cfg.evaluation.prior != "add":
        return False
    return bool((loss.tau, loss.floor) == (prior.tau, prior.floor))


def _own_private_loss(chosen: Chosen) -> str | None:
    takes = declared(chosen.part("exchange"), "takes_local_loss", True)
    other = chosen.cfg.local_loss._target_ != PLAIN_LOSS
    return chosen.named("local_loss", "exchange") if other and not takes else None


def _no_logits_to_adjust(chosen: Chosen) -> str | None:
    use = chosen.cfg.evaluation.prior
    if use == "none" or declared(chosen.part("exchange"), "tests_logits", True):
        return None
    return f"evaluation.prior={use}, {chosen.named('exchange')}"


def _prior_of_nothing(chosen: Chosen) -> str | None:
    # What sites hold only they themselves see.
    if chosen.data is None or not uses_prior(chosen.cfg) or chosen.cfg.sites._target_ is not None:
        return None
    empty = [c.client_id for c in chosen.data.clients if not len(c.train)]
    return f"clients {empty[:10]}" if empty else None


def _removes_twice(chosen: Chosen) -> str | None:
    removes = chosen.cfg.evaluation.prior == "subtract"
    twice = removes and trained_tau(chosen.part("local_loss")) > 0
    return chosen.named("local_loss") if twice else None


OF_PRIORS = (
    Clash(
        lambda chosen: (
            f"name={chosen.cfg.method.name} is what local training is called, beside which this "
            "method is shown"
        ),
        _called_local,
        lambda chosen: (
            f"Choose another name, or method={ADJUSTED}."
            if uses_prior(chosen.cfg)
            else "Choose another name."
        ),
    ),
    Clash(
        "The exchange has a loss of its own on private data",
        _own_private_loss,
        "Set local_loss=ce.",
    ),
    Clash(
        "A prior belongs to logits, and this method is tested by distances to prototypes",
        _no_logits_to_adjust,
        "Set evaluation.prior=none, or exchange.inference=head.",
    ),
    Clash(
        "The prior would be taken out twice: the loss has kept it out of the logits already",
        _removes_twice,
        "Set evaluation.prior=add, or local_loss=ce.",
    ),
    Clash(
        "A client's prior is counted from its training samples, and some have none",
        _prior_of_nothing,
        "Give each of them samples, or set local_loss=ce extract=logits evaluation.prior=none.",
        from_data=True,
    ),
)
