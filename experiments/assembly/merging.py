"""Turn the slot ``merge`` into what the server makes of the models that it gets."""

from __future__ import annotations

from dataclasses import replace

from omegaconf import DictConfig

from clients.exchange.models import SharesModels
from experiments.assembly.parts import Parts
from experiments.config.instantiate import instantiate
from fedfuse.declarations import declared
from fedfuse.exchange.distilled import DistilledAverage
from fedfuse.exchange.kind import Combine
from fedfuse.exchange.models import AverageModels
from fedfuse.merge import Base, Mean
from fedfuse.rng import Streams


def with_merge(parts: Parts, combine: Combine | None) -> Combine | None:
    """Return the server's half of an exchange with the merge that was chosen in the mean's place.

    What goes with what has been asked before (:mod:`experiments.assembly.merge_clashes`).
    """
    if isinstance(instantiate(parts.cfg.merge, "merge"), Mean):
        return combine
    if isinstance(combine, DistilledAverage):
        return replace(combine, average=_merging(parts, combine.average))
    assert isinstance(combine, AverageModels)
    return _merging(parts, combine)


def begins_alike(cfg: DictConfig, exchange: object) -> bool:
    """Tell whether all models of an architecture that travel begin with the same weights."""
    alone = cfg.client.init == "per_client" or cfg.continue_from is not None
    return getattr(exchange, "begins_alike", False) or not alone


def _merging(parts: Parts, average: AverageModels) -> AverageModels:
    merge, streams = instantiate(parts.cfg.merge, "merge"), Streams(parts.cfg.seed)
    base, exchange = None, parts.exchange
    if declared(merge, "needs_base", False):
        assert isinstance(exchange, SharesModels)
        begun = exchange.begin(parts.models, parts.data, streams)
        initial = {
            name: layout.part(buffers=False).flatten(begun[name])
            for name, layout in average.layouts.items()
        }
        alike = begins_alike(parts.cfg, exchange)
        base = Base(parts.cfg.merge_base, initial, alike)
    return replace(average, merge=merge, base=base, streams=streams)
