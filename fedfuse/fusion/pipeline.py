"""One round's fusion, from the bank of what clients know to one teacher for each of them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from fedfuse.declarations import declared, part_name
from fedfuse.errors import KnowledgeError, require
from fedfuse.fusion.around import fused_by, of_round
from fedfuse.fusion.class_scores import BLOCK_BYTES, over_classes
from fedfuse.fusion.class_weights import ClassWeights
from fedfuse.fusion.filters import share_left_out, untempered
from fedfuse.fusion.gather import gather_is_cheaper
from fedfuse.fusion.neighbours import TopK
from fedfuse.fusion.returned import (
    check_targets,
    check_unchanged,
    checked_labels,
    choice_of,
    refuse_class_weights,
    scores_of,
    sharpened,
    tensor_of,
    versions_of,
)
from fedfuse.fusion.rules import answered
from fedfuse.fusion.streaming import Streams, at_least_float32, fuse_streaming
from fedfuse.fusion.weights import DENSE_BYTES, masked_softmax, square
from fedfuse.protocols import (
    ClassScores,
    DrawsAnew,
    Neighbours,
    Rule,
    Scorer,
    Sharpen,
    TargetFilter,
)
from fedfuse.shapes import Float, Int
from fedfuse.stateful import stateful_parts
from fedfuse.types import Fusion, KnowledgeBank, Space, Teachers
from fedfuse.validation import require_count, require_number


@runtime_checkable
class Nearest(Protocol):
    """A scorer that finds each client's best sources without scoring all pairs at once.

    One that only can with some of its options says so with ``searches = False`` for the others.
    """

    def nearest(
        self,
        bank: KnowledgeBank,
        labels: Tensor | None,
        k: int,
        include_self: bool,
        device: torch.device,
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
        """Return the sources [K, k] and their scores [K, k], on ``device``.

        A scorer by class adds the sources' scores [K, C]: the former are those of pairs alone then,
        and the best sources are so over the classes.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Score, choose neighbours, weigh, fuse, sharpen.

    Args:
        scorer: Bank to scores [K, K], row = receiver, column = source; or by class.
        neighbours: Scores to bool [K, K].
        rule: Bank and weights to targets [K, P, C]. A plain function without a ``space`` is taken
            to return probabilities. Scores by class need one that declares ``by_class``.
        sharpen: Probabilities to probabilities, or None. With one, fused logits become
            probabilities first, by a softmax at ``temperature``.
        filter: Fused probabilities, untempered and before sharpening, to the weight of each sample
            in distillation [K, P]; None counts all that somebody answered.
        dense_bytes: Largest matrix [K, K] of float32 weights that is held whole; 256 MiB is
            K = 8,192. Above it top-k neighbours are found block by block and the weights of the
            result are a sparse tensor. Of weights by class no more than this is held at a time,
            however large the [K, K, C] of scores that a scorer may have returned.
        temperature: At which clients match what was fused; rules and losses have it themselves.

    Targets are in the bank's precision, but never in less than float32: rounded to half of it,
    probabilities miss a sum of 1 by up to 1%.

    With top-k neighbours and parts that can do it (all that are shipped), the fusion is a gather
    instead of a product wherever that is cheaper, and memory is bounded: the bank, the teachers
    and up to a fifth of the bank in work. The teachers are the same to 1e-5, and so are the
    neighbours but where two sources' scores are equal to the last bits of a float64.
    """

    scorer: Scorer
    neighbours: Neighbours
    rule: Rule
    sharpen: Sharpen | None = None
    filter: TargetFilter | None = None
    dense_bytes: int = DENSE_BYTES
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("scorer", "neighbours", "rule"):
            part = getattr(self, name)
            require(callable(part), "Pipeline", name, part, "something that can be called")
        for name in ("sharpen", "filter"):
            part = getattr(self, name)
            ok = part is None or callable(part)
            require(ok, "Pipeline", name, part, "None or something that can be called")
        require_count("Pipeline", "dense_bytes", self.dense_bytes, at_least=0)
        require_number("Pipeline", "temperature", self.temperature, above=0)
        refuse_class_weights(self.scorer, self.rule)

    def check_bank(self, bank: KnowledgeBank) -> None:
        """Refuse what single clients sent and a part cannot take, before any part learns from it.

        A part that cannot take everything declares a ``check_bank`` of its own.

        Raises:
            KnowledgeError: Naming the clients.
        """
        scorers: list[object] = [self.scorer]
        while (inner := declared(scorers[-1], "scorer", None)) is not None:
            scorers.append(inner)  # one may stand around another, and that around a third
        for part in (*scorers, self.rule):
            check = declared(part, "check_bank", None)
            if check is not None:
                check(bank)

    @torch.no_grad()
    def __call__(
        self,
        bank: KnowledgeBank,
        labels: Int[Tensor, " P"] | None = None,
        device: torch.device | None = None,
        round_: int = 0,
    ) -> Fusion:
        """Return the round's teachers and the weights behind them, on the bank's device.

        Args:
            bank: What the clients sent, in any float precision. With top-k neighbours it may be
                larger than the device's memory, or in a mapped file.
            labels: Public labels [P], handed on only to a part that declares ``needs_labels``.
            device: Where to work, if not where the bank is; heeded only if the bank is streamed.
            round_: Which round this is, for a scorer or rule that is another one in each.

        Raises:
            KnowledgeError: If a part returns something of the wrong shape, type or range; the
                message names the part.
        """
        near = self.neighbours
        scorer, rule = of_round(self.scorer, round_), of_round(self.rule, round_)
        if (
            isinstance(near, TopK)
            and _searches(scorer)
            and isinstance(rule, Streams)
            and not isinstance(self.rule, DrawsAnew)
            and not declared(rule, "needs_labels", False)
            and self.filter is None
            and self._streams(bank.num_clients, near.k)
        ):
            return self._streamed(bank, labels, near, scorer, rule, device or bank.logits.device)
        return self._dense(bank, labels, scorer, rule)

    def _streams(self, num_clients: int, k: int) -> bool:
        """Return whether few sources per receiver are cheaper, or all pairs too many to hold."""
        return gather_is_cheaper(num_clients, k) or 4 * num_clients**2 > self.dense_bytes

    def _streamed(
        self,
        bank: KnowledgeBank,
        labels: Int[Tensor, " P"] | None,
        near: TopK,
        scorer: Nearest,
        rule: Streams,
        device: torch.device,
    ) -> Fusion:
        """Return what :meth:`_dense` returns, at a cost of K times k instead of K times K."""
        readable = self._readable(bank, labels)
        readable = None if readable is None else readable.to(device)
        index, scores, *by_class = scorer.nearest(bank, readable, near.k, near.include_self, device)
        # Ascending, as a matrix has them; and it reads the bank in order.
        index, order = index.sort(dim=1)
        scores, kept = scores.gather(1, order), torch.ones_like(index, dtype=torch.bool)
        weights: Tensor | ClassWeights = masked_softmax(scores, kept)
        if by_class:
            weights = ClassWeights(ClassScores(scores, by_class[0]), kept, index)
        targets, counts = fuse_streaming(bank, index, weights, rule, finish=self._finished)
        space = rule.space if self.sharpen is None else Space.PROBABILITIES
        home = bank.logits.device
        sparse = 4 * bank.num_clients**2 > self.dense_bytes
        missing = {} if counts is None else {"left_out": share_left_out(counts)}
        fusion = self._fusion(Teachers(bank.client_ids, targets, space, counts), weights, missing)
        assert fusion.weights is not None
        return replace(fusion, weights=square(index.to(home), fusion.weights.to(home), sparse))

    @staticmethod
    def _fusion(
        teachers: Teachers, weights: Tensor | ClassWeights, metrics: dict[str, float]
    ) -> Fusion:
        """Return the round's fusion, with what its record keeps of weights by class."""
        if not isinstance(weights, ClassWeights):
            return Fusion(teachers, weights, metrics)
        return Fusion(teachers, weights.mean, metrics, by_class=weights.summary())

    def _finished(self, fused: Float[Tensor, "R p C"]) -> Float[Tensor, "R p C"]:
        """Return a block of targets, sharpened, after the checks that whole ones get."""
        check_targets(self.rule, fused)
        if self.sharpen is None:
            return fused
        space = Space(declared(self.rule, "space", Space.PROBABILITIES))
        probs = self._probabilities(fused) if space is Space.LOGITS else fused
        return sharpened(self.sharpen, probs)

    def _dense(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None, scorer: Scorer, rule: Rule
    ) -> Fusion:
        """Return the round's fusion over all pairs of clients."""
        precision = at_least_float32(bank.logits.dtype)
        bank = replace(bank, logits=bank.logits.to(precision))
        before = versions_of(bank)
        scores = scores_of(scorer, scorer(bank, self._readable(bank, labels)), bank)
        check_unchanged(f"scorer {part_name(scorer)}", before, bank)
        weights: Tensor | ClassWeights
        if isinstance(scores, Tensor) and scores.ndim == 2:
            scores = scores.to(precision)
            weights = masked_softmax(scores, choice_of(self.neighbours, scores))
        else:
            most = min(BLOCK_BYTES, self.dense_bytes)
            near = choice_of(self.neighbours, over_classes(scores, precision, most))
            weights = ClassWeights(scores, near, dtype=precision, block_bytes=most)
        space = Space(declared(self.rule, "space", Space.PROBABILITIES))
        # A rule that remembers is asked the filter's question too, as if it had not been asked.
        asks = self.filter is not None and bool(stateful_parts({"rule": rule}))
        again = copy.deepcopy(rule) if asks else rule
        before = versions_of(bank, weights, labels)
        made = fused_by(rule, bank, weights, labels)
        check_unchanged(f"rule {part_name(rule)}", before, bank, weights, labels)
        what = f"The rule {part_name(self.rule)} did not return targets"
        targets = tensor_of(made.targets, what, tuple(bank.logits.shape)).to(precision)
        check_targets(self.rule, targets)
        filtered = None
        if self.filter is not None:
            what = f"The filter {part_name(self.filter)} did not return sample weights"
            filtered = self.filter(untempered(again, bank, weights, targets, space, labels))
            tensor_of(filtered, what, tuple(targets.shape[:2]))
        if self.sharpen is not None:
            probs = self._probabilities(targets) if space is Space.LOGITS else targets
            targets, space = sharpened(self.sharpen, probs), Space.PROBABILITIES
        known = None if bank.mask is None else answered(weights, bank.mask).float()
        counts, missing = self._counts(bank, known, made.sample_weight, filtered)
        told = {**made.metrics, **missing}
        return self._fusion(Teachers(bank.client_ids, targets, space, counts), weights, told)

    def _probabilities(self, logits: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return fused logits as the clients' loss would read them."""
        return (logits / self.temperature).softmax(dim=-1)

    def _counts(
        self, bank: KnowledgeBank, *factors: Float[Tensor, "K P"] | None
    ) -> tuple[Float[Tensor, "K P"] | None, dict[str, float]]:
        """Return how much each target counts, the product of what is known of it, and what is lost.

        The latter by name: the share of a round's samples that does not count, of the receiver
        that has the fewest.
        """
        counts, missing = None, {}
        for name, factor in zip(("mask", "rule", "filter"), factors, strict=True):
            if factor is None:
                continue
            what = f"The {name} of the pipeline did not return sample weights"
            tensor_of(factor, what, tuple(bank.logits.shape[:2]))
            if not bool((factor.isfinite() & (factor >= 0)).all()):
                raise KnowledgeError(what, got="impossible ones", allowed="finite ones from 0")
            before = torch.ones_like(factor) if counts is None else counts
            counts = factor.float() if counts is None else counts * factor.float()
            if name != "mask":
                missing[f"left_out_by_{name}"] = share_left_out((before == 0) | (counts > 0))
        if counts is not None:
            missing["left_out"] = share_left_out(counts)
        return counts, missing

    def _readable(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None
    ) -> Int[Tensor, " P"] | None:
        """Return the public labels if the scorer declares that it needs them."""
        if not declared(self.scorer, "needs_labels", False):
            return None
        return checked_labels(bank, labels, f"scorer {part_name(self.scorer)}")


def _searches(scorer: Scorer) -> TypeGuard[Nearest]:
    """Return whether a scorer finds the best sources by itself, with the options that it has."""
    return isinstance(scorer, Nearest) and declared(scorer, "searches", True)
