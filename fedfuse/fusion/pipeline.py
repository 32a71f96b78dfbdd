"""One round's fusion, from the bank of what clients know to one teacher for each of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.declarations import declared, part_name
from fedfuse.errors import KnowledgeError, require
from fedfuse.fusion.rules import answered
from fedfuse.fusion.weights import masked_softmax
from fedfuse.protocols import Neighbours, Rule, Scorer, Sharpen
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import Fusion, KnowledgeBank, Space, Teachers


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Score, choose neighbours, weigh, fuse, sharpen.

    Args:
        scorer: Bank to scores [K, K], row = receiver, column = source.
        neighbours: Scores to bool [K, K].
        rule: Bank and weights to targets [K, P, C]. A plain function without a ``space`` is taken
            to return probabilities.
        sharpen: Probabilities to probabilities, or None. With one, fused logits become
            probabilities (softmax at temperature 1) first.
    """

    scorer: Scorer
    neighbours: Neighbours
    rule: Rule
    sharpen: Sharpen | None = None

    def __post_init__(self) -> None:
        for name in ("scorer", "neighbours", "rule"):
            part = getattr(self, name)
            require(callable(part), "Pipeline", name, part, "something that can be called")
        ok = self.sharpen is None or callable(self.sharpen)
        require(ok, "Pipeline", "sharpen", self.sharpen, "None or something that can be called")

    @torch.no_grad()
    def __call__(self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None = None) -> Fusion:
        """Return the round's teachers and the weights behind them, on the bank's device.

        Args:
            bank: What the clients sent.
            labels: Public labels [P], handed on only to a scorer that declares ``needs_labels``.

        Raises:
            KnowledgeError: If a part returns something of the wrong shape, type or range; the
                message names the part.
        """
        scores = self._scores(bank, labels)
        near = self._neighbours(scores)
        weights = masked_softmax(scores, near)
        space = Space(declared(self.rule, "space", Space.PROBABILITIES))
        targets = self._targets(bank, weights)
        if self.sharpen is not None:
            probs = targets.softmax(dim=-1) if space is Space.LOGITS else targets
            targets, space = self._sharpened(self.sharpen, probs), Space.PROBABILITIES
        counts = None if bank.mask is None else answered(weights, bank.mask).float()
        return Fusion(Teachers(bank.client_ids, targets, space, counts), weights)

    def _scores(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None
    ) -> Float[Tensor, "K K"]:
        readable = None
        if declared(self.scorer, "needs_labels", False):
            readable = _checked_labels(bank, labels, part_name(self.scorer))
        scores = self.scorer(bank, readable)
        what = f"The scorer {part_name(self.scorer)} did not return scores"
        _check(scores, what, (bank.num_clients,) * 2, floating=True)
        if bool((scores.isnan() | (scores == torch.inf)).any()):
            raise KnowledgeError(what, got="NaN or +inf", allowed="finite scores or -inf")
        return scores.to(bank.logits.dtype)

    def _neighbours(self, scores: Float[Tensor, "K K"]) -> Bool[Tensor, "K K"]:
        near = self.neighbours(scores)
        what = f"The neighbours {part_name(self.neighbours)} did not return a choice"
        _check(near, what, tuple(scores.shape), floating=False)
        alone = (~near.any(dim=1)).nonzero().flatten().tolist()
        if alone:
            raise KnowledgeError(
                what,
                got=f"no source at all for the clients at {alone[:5]}",
                allowed="at least one True in every row",
                next_step="Let a client without neighbours keep itself.",
            )
        return near

    def _targets(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K K"]
    ) -> Float[Tensor, "K P C"]:
        targets = self.rule(bank, weights)
        what = f"The rule {part_name(self.rule)} did not return targets"
        _check(targets, what, tuple(bank.logits.shape), floating=True)
        if not bool(targets.isfinite().all()):
            raise KnowledgeError(what, got="NaN or infinite values", allowed="finite values")
        return targets

    def _sharpened(self, sharpen: Sharpen, probs: Float[Tensor, "K P C"]) -> Float[Tensor, "K P C"]:
        sharp = sharpen(probs)
        what = f"The sharpening {part_name(sharpen)} did not return probabilities"
        _check(sharp, what, tuple(probs.shape), floating=True)
        off = float((sharp.sum(dim=-1) - 1).abs().max())
        if not (off < 1e-3 and bool((sharp >= 0).all())):
            raise KnowledgeError(
                what,
                got=f"a smallest value of {float(sharp.min()):g} and a sum {off:g} away from 1",
                allowed="values from 0 that sum to 1 over the classes",
            )
        return sharp


def _checked_labels(
    bank: KnowledgeBank, labels: Int[Tensor, " P"] | None, reader: str
) -> Int[Tensor, " P"]:
    """Return the public labels on the bank's device, or say why they cannot be used."""
    if labels is None:
        raise KnowledgeError(
            f"The scorer {reader} needs the labels of the public set, which has none",
            next_step="Choose a public set with labels or another scorer.",
        )
    num_samples = bank.logits.shape[1]
    if len(labels) != num_samples or bool(((labels < 0) | (labels >= bank.num_classes)).any()):
        raise KnowledgeError(
            "The labels of the public set do not fit the clients' predictions",
            got=f"{len(labels)} labels from {int(labels.min())} to {int(labels.max())}",
            allowed=f"{num_samples} labels from 0 to {bank.num_classes - 1}",
        )
    return labels.to(bank.logits.device)


def _check(value: object, what: str, shape: tuple[int, ...], *, floating: bool) -> None:
    """Raise unless ``value`` is a tensor of the shape and the kind of type."""
    kind = "float" if floating else "bool"
    right = (
        isinstance(value, Tensor)
        and tuple(value.shape) == shape
        and (value.is_floating_point() if floating else value.dtype == torch.bool)
    )
    if not right:
        got = (
            f"{list(value.shape)} of {value.dtype}"
            if isinstance(value, Tensor)
            else f"a {type(value).__name__}"
        )
        raise KnowledgeError(what, got=got, allowed=f"a {kind} tensor of shape {list(shape)}")
