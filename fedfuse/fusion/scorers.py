"""Say how effective each client's knowledge is for each other client: scores [K, K].

Row = receiver, column = source. A score is the logarithm of an unnormalised fusion weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.fusion import estimators
from fedfuse.fusion.blocks import client_blocks
from fedfuse.fusion.divergences import DIVERGENCES
from fedfuse.fusion.topk import best_everywhere, distance_scores, nearest
from fedfuse.shapes import Float, Int
from fedfuse.types import KnowledgeBank
from fedfuse.validation import require_number, require_one_of

_NEED_LABELS = ("prior_corrected", "class_conditional")
_NEED_CLASS_DISTRIBUTION = ("label_histogram", "oracle")
_ESTIMATORS = ("mean_soft", *_NEED_LABELS, *_NEED_CLASS_DISTRIBUTION)


@dataclass(frozen=True, slots=True)
class KnFu:
    """Score sources by how close their estimated class distribution is to the receiver's.

    KnFu-style (arXiv 2403.11892): the paper fuses, per client, the knowledge of its "semantic
    neighbours" by an estimated probability distribution (EPD) and sets beta = 10 in all its
    experiments. The exact estimator, divergence and weight formula could not be read in any public
    text; ``w_ij`` proportional to ``exp(-beta * D(e_i || e_j))`` is our reading, and each choice
    is an option.

    Args:
        epd: ``mean_soft`` (from the predictions alone, or clients' own estimates of it where they
            show other models than theirs), ``prior_corrected`` or
            ``class_conditional`` (also need public labels), ``label_histogram`` or ``oracle``
            (need the clients' class shares).
        divergence: ``kl``, ``js``, ``symmetric_kl``, ``l1``, ``cosine`` or ``hellinger``.
        beta: Sharpness; 0 is the plain mean, a very large one leaves each client to itself. The
            default was chosen by measurement (README), not the paper's.
        temperature: Of the softmax inside the estimators that use predictions.
        smoothing: Laplace samples per class, only for ``epd="label_histogram"``.
    """

    epd: str = "mean_soft"
    divergence: str = "kl"
    beta: float = 3.0
    temperature: float = 1.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_one_of("KnFu", "epd", self.epd, _ESTIMATORS)
        require_one_of("KnFu", "divergence", self.divergence, DIVERGENCES)
        require_number("KnFu", "beta", self.beta, at_least=0)
        require_number("KnFu", "temperature", self.temperature, above=0)
        require_number("KnFu", "smoothing", self.smoothing, at_least=0)

    @property
    def needs_labels(self) -> bool:
        """Whether the labels of the public set are read."""
        return self.epd in _NEED_LABELS

    @property
    def needs_class_distribution(self) -> bool:
        """Whether the clients must send their class shares."""
        return self.epd in _NEED_CLASS_DISTRIBUTION

    def estimate(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None
    ) -> Float[Tensor, "K C"]:
        """Return the clients' estimated class distributions.

        Raises:
            KnowledgeError: If the estimator needs public labels or class shares that are not
                there.
        """
        match self.epd:
            case "mean_soft" if bank.estimate is not None:
                return bank.estimate.to(bank.logits.dtype)
            case "mean_soft":
                return estimators.mean_soft(bank.logits, bank.mask, self.temperature)
            case "prior_corrected":
                known = self._given(labels, "the labels of the public set")
                return estimators.prior_corrected(bank.logits, known, bank.mask, self.temperature)
            case "class_conditional":
                known = self._given(labels, "the labels of the public set")
                return estimators.class_conditional(bank.logits, known, bank.mask, self.temperature)
            case "label_histogram":
                shares = self._given(bank.class_distribution, "the clients' class shares")
                return estimators.label_histogram(shares, bank.num_examples, self.smoothing)
            case _:
                return estimators.oracle(
                    self._given(bank.class_distribution, "the clients' class shares")
                )

    def check_bank(self, bank: KnowledgeBank) -> None:
        """Refuse class shares that are no distribution where they are taken for the truth."""
        if self.epd == "oracle" and bank.class_distribution is not None:
            wrong = estimators.no_distribution(bank.class_distribution)
            if bool(wrong.any()):
                refused = KnowledgeError(
                    "The class shares of a client are no distribution",
                    got=f"shares of the clients {bank.client_ids[wrong].tolist()[:5]}",
                    allowed="shares from 0 that sum to 1",
                )
                refused.client_ids = tuple(bank.client_ids[wrong].tolist())
                raise refused

    def _given(self, value: Tensor | None, what: str) -> Tensor:
        """Return ``value``, or say which option asked for what is not there."""
        if value is None:
            raise KnowledgeError(
                f"The estimator '{self.epd}' needs {what}, which are not there",
                next_step="Choose scorer.epd=mean_soft, which needs only the predictions.",
            )
        return value

    def __call__(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None
    ) -> Float[Tensor, "K K"]:
        """Return ``-beta * D(e_i || e_j)``."""
        divergences = DIVERGENCES[self.divergence](self.estimate(bank, labels))
        return distance_scores(divergences, self.beta)

    def nearest(
        self,
        bank: KnowledgeBank,
        labels: Int[Tensor, " P"] | None,
        k: int,
        include_self: bool,
        device: torch.device,
        bias: Float[Tensor, " K"] | None = None,
    ) -> tuple[Int[Tensor, "K k"], Float[Tensor, "K k"]]:
        """Return each client's best sources and their scores, without all pairs' scores.

        An estimate needs one client's predictions only, so the bank passes in blocks of clients.
        ``bias`` is added to the scores of each source.
        """
        estimates = [self.estimate(some, labels) for some in client_blocks(bank, device)]
        epds = torch.cat(estimates)
        return nearest(epds, self.divergence, self.beta, k, include_self, bias=bias)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Give every source the same score: the plain mean (FedMD, DS-FL)."""

    def __call__(
        self,
        bank: KnowledgeBank,
        labels: Int[Tensor, " P"] | None,  # noqa: ARG002
    ) -> Float[Tensor, "K K"]:
        """Return zeros."""
        return bank.logits.new_zeros(bank.num_clients, bank.num_clients)

    def nearest(
        self,
        bank: KnowledgeBank,
        labels: Int[Tensor, " P"] | None,  # noqa: ARG002
        k: int,
        include_self: bool,
        device: torch.device,
        bias: Float[Tensor, " K"] | None = None,
    ) -> tuple[Int[Tensor, "K k"], Float[Tensor, "K k"]]:
        """Return the first sources by id, and zeros; with a bias the best by it."""
        scores = torch.zeros(bank.num_clients, device=device) if bias is None else bias
        return best_everywhere(scores, k, include_self)


@dataclass(frozen=True, slots=True)
class DataSize:
    """Weight every source by its number of private training samples, as FedAvg weighs models."""

    def __call__(
        self,
        bank: KnowledgeBank,
        labels: Int[Tensor, " P"] | None,  # noqa: ARG002
    ) -> Float[Tensor, "K K"]:
        """Return ``log n_j`` in every row."""
        return _log_sizes(bank).to(bank.logits.dtype).repeat(bank.num_clients, 1)

    def nearest(
        self,
        bank: KnowledgeBank,
        labels: Int[Tensor, " P"] | None,  # noqa: ARG002
        k: int,
        include_self: bool,
        device: torch.device,
        bias: Float[Tensor, " K"] | None = None,
    ) -> tuple[Int[Tensor, "K k"], Float[Tensor, "K k"]]:
        """Return the largest sources and the logarithms of their sizes, with the bias added."""
        scores = _log_sizes(bank).to(device)
        return best_everywhere(scores if bias is None else scores + bias, k, include_self)


def _log_sizes(bank: KnowledgeBank) -> Float[Tensor, " K"]:
    """Return the logarithms of the clients' numbers of samples.

    A client without samples would score minus infinity; it counts as one sample instead.
    """
    return bank.num_examples.clamp_min(1).float().log()
