"""EdgeFD's client selector: answer only for public samples near a centre of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.familiarity.hold_out import hold_out, quantile_mask
from fedfuse.familiarity.protocol import SPACES
from fedfuse.kmeans import centroids
from fedfuse.shapes import Bool, Float, Int
from fedfuse.validation import require_count, require_number, require_one_of


def distance_to_nearest(
    points: Float[Tensor, "n d"], centres: Float[Tensor, "G d"]
) -> Float[Tensor, " n"]:
    """Return each point's distance to the nearest centre.

    >>> distance_to_nearest(torch.tensor([[1.0], [7.0]]), torch.tensor([[0.0], [10.0]]))
    tensor([1., 3.])
    """
    return torch.cdist(points, centres).amin(dim=1)


@dataclass(frozen=True, slots=True)
class NearestCentre:
    """Keep a public sample iff it is nearer to a k-means centre than most held-out private ones.

    EdgeFD (Mujtaba et al. 2025, arXiv 2508.14769) puts k-means on private samples in the place of
    Selective-FD's density ratio and needs no filter of the server's. Where its threshold lies is
    not known: a quantile of held-out private samples, as Selective-FD's selector has it, is ours;
    so is the number of centres. The authors' public set is a part of clients' own samples, whose
    owner answers for them anyway; here nobody owns it.

    Args:
        num_clusters: Centres; with fewer private samples to learn from, as many as these.
        quantile: q, 0 to 1; about that share of a client's own kind is refused.
        held_out: Share of the private samples that sets the threshold.
        of: ``inputs``, flattened (once per run), or ``features``, what goes into the last layer of
            the client's own model (in every round).
    """

    num_clusters: int = 10
    quantile: float = 0.25
    held_out: float = 0.25
    of: str = "inputs"
    gives: ClassVar[str] = "mask"

    def __post_init__(self) -> None:
        require_count("NearestCentre", "num_clusters", self.num_clusters)
        require_number("NearestCentre", "num_clusters", self.num_clusters, at_most=255)
        require_number("NearestCentre", "quantile", self.quantile, at_least=0, at_most=1)
        require_number("NearestCentre", "held_out", self.held_out, above=0, at_most=0.9)
        require_one_of("NearestCentre", "of", self.of, SPACES)

    def __call__(
        self,
        private: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],  # noqa: ARG002
        public: Float[Tensor, "P d"],
        generator: torch.Generator,
    ) -> Bool[Tensor, " P"]:
        """Return the mask of the samples that the client answers for.

        Raises:
            KnowledgeError: If a sample is not finite, or there are fewer than two private ones.
        """
        private, public = private.double(), public.double()
        if not bool(private.isfinite().all() and public.isfinite().all()):
            raise KnowledgeError("Centres cannot be found among features that are not finite")
        learned, held = hold_out(len(private), self.held_out, generator)
        known = private[learned]
        everyone = known.new_ones(1, 1, len(known))
        found, sizes = centroids(known[None], everyone, min(self.num_clusters, len(known)))
        centres = found[0, 0][sizes[0, 0] > 0]
        closeness = -distance_to_nearest(torch.cat([public, private[held]]), centres)
        return quantile_mask(closeness[: len(public)], closeness[len(public) :], self.quantile)
