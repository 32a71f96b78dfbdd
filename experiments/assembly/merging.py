"""Turn the slot ``merge`` into what the server makes of the models that it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from omegaconf import DictConfig
from torch import Tensor, nn

from clients.exchange.models import SharesModels
from experiments.assembly.parts import Parts
from experiments.config.instantiate import instantiate
from fedfuse.data.tensors import to_inputs
from fedfuse.declarations import declared
from fedfuse.exchange.distilled import DistilledAverage
from fedfuse.exchange.kind import Combine
from fedfuse.exchange.models import AverageModels
from fedfuse.layout import Layout
from fedfuse.merge import Base, Mean
from fedfuse.merge.answers import answers
from fedfuse.rng import Streams
from fedfuse.types import FederatedData


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
    assert isinstance(parts.exchange, SharesModels)
    base, predict = None, None
    asks = declared(merge, "needs_predictions", False)
    based = declared(merge, "needs_base", False)
    begun = {}
    if based or asks:
        begun = parts.exchange.begin(parts.models, parts.data, streams)
    if based:
        initial = {
            name: layout.part(buffers=False).flatten(begun[name])
            for name, layout in average.layouts.items()
        }
        base = Base(parts.cfg.merge_base, initial, begins_alike(parts.cfg, parts.exchange))
    if asks:
        predict = _predictor(parts.data, begun, average.layouts)
    return replace(average, merge=merge, base=base, streams=streams, predict=predict)


def _predictor(
    data: FederatedData, models: Mapping[str, nn.Module], layouts: Mapping[str, Layout]
) -> Callable[[str, Tensor, int], Tensor]:
    """Return what predicts public samples with models of which there are the weights."""

    def predict(name: str, vectors: Tensor, samples: int) -> Tensor:
        inputs = to_inputs(data.public.inputs[:samples], data.mean, data.std)
        return answers(models[name], layouts[name], vectors, inputs)

    return predict
