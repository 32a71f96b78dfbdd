"""What goes with a merge of models: what is exchanged, and from where clients begin."""

from __future__ import annotations

from clients.exchange.distilled import DistilledOnServer
from clients.exchange.models import SharesModels
from clients.exchange.pooled import Pooled
from experiments.assembly.chosen import Chosen, Clash
from experiments.assembly.merging import begins_alike
from fedfuse.merge import ChecksLayouts, Mean


def _merges(chosen: Chosen) -> bool:
    return not isinstance(chosen.part("merge"), Mean)


def _no_models(chosen: Chosen) -> str | None:
    exchange = chosen.part("exchange")
    models = isinstance(exchange, SharesModels) and not isinstance(exchange, Pooled)
    models = models and not chosen.needs("exchange", "adds_up_changes")  # they are no models
    return chosen.named("merge", "exchange") if _merges(chosen) and not models else None


def _one_for_each(chosen: Chosen) -> str | None:
    personal = chosen.needs("merge", "personal")
    distilled = isinstance(chosen.part("exchange"), DistilledOnServer)
    return chosen.named("merge", "exchange") if personal and distilled else None


def _begins_apart(chosen: Chosen) -> str | None:
    asked = chosen.needs("merge", "needs_base") and chosen.cfg.merge_base != "last_or_mean"
    if not asked or begins_alike(chosen.cfg, chosen.part("exchange")):
        return None
    run = chosen.cfg.continue_from
    why = "client.init=per_client" if run is None else f"continue_from={run}"
    return f"{chosen.named('merge')}, {why}"


def _misfit(chosen: Chosen) -> str | None:
    merge, exchange = chosen.part("merge"), chosen.part("exchange")
    if not isinstance(merge, ChecksLayouts) or not isinstance(exchange, SharesModels):
        return None
    assert chosen.models is not None
    assert chosen.data is not None
    layouts = exchange.average(chosen.models, chosen.data).layouts
    return merge.misfit({name: one.part(buffers=False) for name, one in layouts.items()})


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
        "Set client.init=shared and leave continue_from out; or set merge_base=last_or_mean, with "
        "which the first exchange averages.",
    ),
    Clash(
        lambda chosen: f"{chosen.named('merge')} cannot merge the models of this run",
        _misfit,
        "Choose other models or patterns (docs/methods.md says what each merge takes), or a method "
        "that shares predictions.",
        from_data=True,
    ),
)
