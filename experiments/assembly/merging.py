"""Turn the slot ``merge`` into what the server makes of the models that it gets."""

from __future__ import annotations

from dataclasses import replace

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
        base = Base(parts.cfg.merge_base, initial)
    return replace(average, merge=merge, base=base, streams=streams)
