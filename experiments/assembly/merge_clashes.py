"""What goes with a merge of models: what is exchanged, and from where clients begin."""

from __future__ import annotations

from clients.exchange.distilled import DistilledOnServer
from clients.exchange.models import SharesModels
from clients.exchange.pooled import Pooled
from experiments.assembly.chosen import Chosen, Clash
from fedfuse.merge import Mean


def _merges(chosen: Chosen) -> bool:
    return not isinstance(chosen.part("merge"), Mean)


def _no_models(chosen: Chosen) -> str | None:
    exchange = chosen.part("exchange")
    models = isinstance(exchange, SharesModels) and not isinstance(exchange, Pooled)
    return chosen.named("merge", "exchange") if _merges(chosen) and not models else None


def _one_for_each(chosen: Chosen) -> str | None:
    personal = chosen.needs("merge", "personal")
    distilled = isinstance(chosen.part("exchange"), DistilledOnServer)
    return chosen.named("merge", "exchange") if personal and distilled else None


def _no_base(chosen: Chosen) -> bool:
    alike = getattr(chosen.part("exchange"), "begins_alike", False)
    asked = chosen.needs("merge", "needs_base") and chosen.cfg.merge_base != "sent"
    return asked and not alike


def _begins_apart(chosen: Chosen) -> str | None:
    apart = _no_base(chosen) and chosen.cfg.client.init == "per_client"
    return f"{chosen.named('merge')}, client.init=per_client" if apart else None


def _continues(chosen: Chosen) -> str | None:
    run = chosen.cfg.continue_from
    return f"{chosen.named('merge')}, continue_from={run}" if run and _no_base(chosen) else None


OF_MERGES = (
    Clash(
        "A merge makes a model of several, and this method exchanges something else",
        _no_models,
        "Set merge=mean, or choose a method that exchanges models, such as method=fedavg.",
    ),
    Clash(
        "The merge makes a model for each client, and the server distils into one for all",
        _one_for_each,
        "Set merge=mean, or exchange=models.",
    ),
    Clash(
        "The merge adds up how far clients came from one start, and each begins somewhere else",
        _begins_apart,
        "Set client.init=shared, or merge_base=sent, with which the first exchange averages.",
    ),
    Clash(
        "The merge adds up how far clients came from one start, and they go on from models of "
        "their own",
        _continues,
        "Set merge_base=sent, with which the first exchange averages.",
    ),
)
