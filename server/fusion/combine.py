"""What the server makes of the predictions of one round."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedfuse.declarations import declared
from fedfuse.fusion.blocks import fits
from fedfuse.fusion.filters import share_left_out
from fedfuse.fusion.pipeline import Pipeline
from fedfuse.fusion.weights import distances
from fedfuse.request import rows_of
from fedfuse.select import PublicRounds
from fedfuse.types import Fusion, KnowledgeBank, Teachers
from server.fusion.requests import Requests
from server.fusion.target_cache import TargetCache


@dataclass(frozen=True, slots=True)
class FusePredictions:
    """Predictions to teachers, by the pipeline of scores, neighbours, rule and sharpening.

    Args:
        pipeline: What fuses.
        public: The public samples of each round.
        device: Where the pipeline computes.
        cache: Targets that still serve; None fuses every sample anew.
        requests: Asks for some of the samples, and learns from what is fused; None asks for all.
    """

    pipeline: Pipeline
    public: PublicRounds
    device: torch.device
    cache: TargetCache | None = None
    requests: Requests | None = None

    def __call__(self, knowledge: KnowledgeBank, round_: int) -> Fusion:
        """Return one teacher per client, on the CPU."""
        # A bank that is too large for the device stays where it is and is streamed through it.
        home = self.device if fits(knowledge, self.device) else torch.device("cpu")
        labels = self.public.labels(round_)
        labels = None if labels is None else labels.to(home)
        fusion = self.pipeline(knowledge.to(home), labels, self.device, round_)
        weights = None if fusion.weights is None else fusion.weights.cpu()
        teachers = fusion.teachers.to("cpu")
        metrics = dict(fusion.metrics)
        if knowledge.mask is not None:
            asks = self.cache or self.requests
            ids = knowledge.client_ids.tolist()
            wanted = None if asks is None else asks.request(round_, ids)
            asked = torch.ones_like(knowledge.mask) if wanted is None else rows_of(wanted, len(ids))
            missing = asked & ~knowledge.mask
            metrics["left_out_by_masks"] = int(missing.sum()) / max(int(asked.sum()), 1)
        if self.cache is not None and isinstance(teachers, Teachers):
            teachers = self.cache.complete(teachers, round_)
            assert teachers.sample_weight is not None
            metrics["left_out"] = share_left_out(teachers.sample_weight)
        if self.requests is not None and isinstance(teachers, Teachers):
            metrics |= self.requests.note(knowledge, teachers, round_)
        if weights is not None and not weights.is_sparse and self._learns():
            metrics |= distances(weights)
        return Fusion(teachers, weights, metrics, by_class=fusion.by_class)

    def _learns(self) -> bool:
        """Tell whether the weights are learned, so that their collapse should be seen."""
        return declared(self.pipeline.scorer, "learned", False)
