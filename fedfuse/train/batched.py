"""Train and query all clients of one architecture at once.

Their parameters are the rows of one matrix, ``torch.func.vmap`` runs one model with all of them,
and one update moves all rows. Clients come by falling number of steps, so those that still train
are always the first rows: a client whose steps are over is not touched at all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.train.clipping import clip_rows
from fedfuse.train.device_memory import bytes_per_sample, clients_that_fit
from fedfuse.train.moments import Update, trained, update_of
from fedfuse.train.obstacles import obstacle
from fedfuse.train.padded import PaddedSteps, pad
from fedfuse.train.patches import Patches, PlainLayout
from fedfuse.train.precision import Precision
from fedfuse.train.replay import Batch, Replay, Step, record_on
from fedfuse.train.side_by_side import alike, largest_batch, side_by_side, together
from fedfuse.train.stacked import StackedModels
from fedfuse.train.trainer import LoopTrainer, Student
from fedfuse.train.work import SampleLoss, Work

_Feed = Callable[[Sequence[int], slice], tuple[Tensor, bool]]
"""Give the inputs of a batch to students: [k, B, ...], or [B, ...] and True if all share them."""


_MOST_REPLAYS = 8
"""Phases whose recorded steps are kept: local training and distillation of a few architectures."""


class LoopFallbackWarning(UserWarning):
    """A model cannot be batched; its clients train one after the other."""


@dataclass(frozen=True, slots=True)
class BatchedTrainer:
    """Many clients at once: the GPU's choice.

    Takes the steps that :class:`~fedfuse.train.trainer.LoopTrainer` takes and agrees with it up
    to floating-point rounding; only layers that draw random numbers (dropout) draw others.

    Args:
        precision: Number format of the passes through the models.
        patches: Whether convolutions run as matrix products over unfolded inputs
            (:mod:`fedfuse.train.patches`) or as grouped convolutions; None for the former on CUDA
            in layers where that is known to cost less.
        fallback: Who trains what cannot be batched; None refuses it.
        atomic: Whether a :meth:`fit` that fails leaves all students as they were, at the price of
            a copy of their parameters and moments.
        graphs: Whether steps are recorded as CUDA graphs where there is CUDA.
        clip_norm: Largest norm that the gradient of a client's step keeps, each client's by
            itself; None for any.
    """

    precision: Precision = Precision.FP32
    patches: bool | None = None
    fallback: LoopTrainer | None = None
    atomic: bool = False
    graphs: bool = True
    clip_norm: float | None = None
    _obstacles: dict[str, str | None] = field(default_factory=dict, repr=False, compare=False)
    _chunks: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    _bytes: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    _ranks: dict[int, int] = field(default_factory=dict, repr=False, compare=False)
    _replays: dict[tuple[object, ...], Replay] = field(
        default_factory=dict, repr=False, compare=False
    )

    def cohorts(
        self, client_ids: Sequence[int], architectures: Sequence[str]
    ) -> list[tuple[int, ...]]:
        """Hand over all clients of one architecture together."""
        groups: dict[str, list[int]] = {}
        for client_id, architecture in zip(client_ids, architectures, strict=True):
            groups.setdefault(architecture, []).append(client_id)
        return [tuple(group) for group in groups.values()]

    def fit(self, students: Sequence[Student], works: Sequence[Work]) -> list[float]:
        """Take all students' steps side by side, as many students at once as fit into memory.

        Raises:
            FedfuseError: If the model cannot be batched and there is no fallback, or if not even
                one client fits into memory.
        """
        if not students:
            return []
        if (loop := self._instead(students[0], works[0].inputs)) is not None:
            return loop.fit(students, works)
        losses = [float("nan")] * len(students)
        busy = [row for row, work in enumerate(works) if work.schedule.num_steps]
        # Equal steps keep the order of the first training, and with it the matrix in which the
        # clients' parameters already lie: distillation, where all take as many, moves nobody.
        newest = len(self._ranks)
        busy.sort(
            key=lambda row: (
                -works[row].schedule.num_steps,
                self._ranks.get(students[row].client_id, newest),
            )
        )
        for row in busy:
            self._ranks.setdefault(students[row].client_id, len(self._ranks))
        if not busy:
            return losses
        size = self._chunk(students[0], works[busy[0]].inputs, largest_batch(works), len(busy))
        before: list[tuple[Tensor, Tensor]] = []
        try:
            chunks = (
                group[start : start + size]
                for group in alike(busy, works)
                for start in range(0, len(group), size)
            )
            for rows in chunks:
                theirs = self._fit(
                    [students[row] for row in rows], [works[row] for row in rows], before
                )
                for row, loss in zip(rows, theirs, strict=True):
                    losses[row] = loss
        except Exception:
            for matrix, copy in before:
                matrix.copy_(copy)
            raise
        return losses

    def predict(self, students: Sequence[Student], inputs: Tensor, batch_size: int) -> Tensor:
        """Query all students on the same inputs."""
        return self.predict_pools(students, [inputs], [0] * len(students), batch_size)

    def predict_pools(
        self,
        students: Sequence[Student],
        pools: Sequence[Tensor],
        which: Sequence[int],
        batch_size: int,
    ) -> Tensor:
        """Return logits [k, N, C] of students that look at different inputs, many at the same.

        Args:
            students: k students.
            pools: The inputs, [N, ...] each.
            which: The pool that each student looks at.
            batch_size: Samples per forward pass.
        """
        if (loop := self._instead(students[0], pools[0])) is not None:
            asked = zip(students, which, strict=True)
            return torch.cat([loop.predict([s], pools[pool], batch_size) for s, pool in asked])

        def feed(rows: Sequence[int], part: slice) -> tuple[Tensor, bool]:
            if len(pools) == 1:
                return pools[0][part], True
            wanted = torch.tensor([which[row] for row in rows], device=pools[0].device)
            return torch.stack([pool[part] for pool in pools])[wanted], False

        return self._ask(students, pools[0], batch_size, feed)

    def predict_each(
        self, students: Sequence[Student], inputs: Sequence[Tensor], batch_size: int
    ) -> list[Tensor]:
        """Query all students, each on its own inputs, padded to the longest."""
        if not students:
            return []
        if (loop := self._instead(students[0], inputs[0])) is not None:
            return loop.predict_each(students, inputs, batch_size)
        own = side_by_side(inputs)

        def feed(rows: Sequence[int], part: slice) -> tuple[Tensor, bool]:
            if list(rows) == list(range(len(own))):
                return own[:, part], False
            return own[torch.tensor(rows, device=own.device), part], False

        logits = self._ask(students, own[0], batch_size, feed)
        return [rows[: len(x)] for rows, x in zip(logits, inputs, strict=True)]

    # -- one chunk -----------------------------------------------------------------------------

    def _fit(
        self,
        students: Sequence[Student],
        works: Sequence[Work],
        before: list[tuple[Tensor, Tensor]],
    ) -> list[float]:
        """Take the steps of one chunk; note in ``before`` what would undo them, if wanted."""
        models = StackedModels.of(students, training=True)
        update = update_of([student.optimizer for student in students])
        if self.atomic:
            before += [(matrix, matrix.clone()) for matrix in (models.rows, *update.moments)]
        main = pad(works)
        anchors = [work.anchor for work in works if work.anchor is not None]
        anchor = pad(anchors) if len(anchors) == len(works) else None
        weight = 0.0 if anchor is None else works[0].anchor_weight
        take = self._steps(models, update, [main, *([] if anchor is None else [anchor])], weight)
        works[0].seed_layers()
        total = torch.zeros(len(students), device=models.rows.device)
        for step, active in enumerate(main.active):
            batch = main.batch(step) + (() if anchor is None else anchor.batch(step))
            batch += (None if main.rates is None else main.rates[step, :active],)
            total[:active] += take(batch)
        counts = torch.tensor([float(work.schedule.num_steps) for work in works])
        means: list[float] = (total.cpu() / counts).tolist()
        return means

    def _steps(
        self, models: StackedModels, update: Update, parts: Sequence[PaddedSteps], weight: float
    ) -> Step:
        """Return what takes a step with the batches of ``parts``, the anchor's times ``weight``."""

        def step(batch: Batch) -> Tensor:
            inputs = batch[0]
            assert inputs is not None
            leaf = models.rows[: len(inputs)].detach().requires_grad_()
            losses = self._losses(models, leaf, parts[0].loss, *batch[:3])
            if len(parts) > 1:
                losses = losses + weight * self._losses(models, leaf, parts[1].loss, *batch[3:6])
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
            with torch.no_grad():
                if self.clip_norm is not None:
                    clip_rows(gradient, self.clip_norm)
                update(models.rows[: len(inputs)], gradient, batch[-1])
            return losses.detach()

        record = record_on(models.rows.device) if self.graphs else None
        if record is None or models.fixed:  # buffers are stacked anew in each phase
            return step
        moved = [models.rows, *update.moments]
        key = (*((part.data_ptr(), part.shape) for part in moved), weight)
        key += tuple(_key_of(part.loss) for part in parts)
        kept = self._replays.pop(key, None) or Replay(step, record)
        self._replays[key] = kept  # the latest comes last
        kept.step = step  # its model is in training mode now, the former phase's may not be
        while len(self._replays) > _MOST_REPLAYS:
            self._replays.pop(next(iter(self._replays)))
        kept.begin()
        return kept

    def _losses(
        self,
        models: StackedModels,
        leaf: Tensor,
        loss: SampleLoss,
        inputs: Tensor | None,
        targets: Tensor | None,
        weights: Tensor | None,
    ) -> Tensor:
        """Return the mean loss of each active client's batch, [A]."""
        assert inputs is not None
        assert targets is not None
        with self.precision.context(inputs.device), self._convolutions(inputs.device):
            logits = models(leaf, inputs)
        losses = loss(logits.float().flatten(0, 1), targets.flatten(0, 1))
        losses = losses.view(len(leaf), -1)
        if weights is None:
            return losses.mean(dim=1)
        counted = weights.sum(dim=1).clamp_min(torch.finfo(weights.dtype).tiny)
        return (losses * weights).sum(dim=1) / counted

    def _ask(
        self, students: Sequence[Student], like: Tensor, batch_size: int, feed: _Feed
    ) -> Tensor:
        """Return logits [k, N, C] on inputs of the shape of ``like`` [N, ...]."""
        groups, answers = together(students), []
        for rows in groups:
            models = StackedModels.of([students[row] for row in rows], training=False)
            needed = self._per_sample(students[0], like[:1]) * len(rows)
            fit = clients_that_fit(needed, like.device, "evaluation.batch_size")
            step = min(batch_size, fit)
            with (
                torch.inference_mode(),
                self.precision.context(like.device),
                self._convolutions(like.device),
            ):
                parts = []
                for start in range(0, len(like), step):
                    batch, shared = feed(rows, slice(start, start + step))
                    parts.append(models(models.rows, batch, shared=shared).float())
            answers.append(torch.cat(parts, dim=1))  # no inference tensor: losses may want it
        order = [row for rows in groups for row in rows]
        logits = answers[0] if len(answers) == 1 else torch.cat(answers)
        if order == list(range(len(students))):
            return logits
        places = torch.tensor(order, device=logits.device).argsort()
        return logits[places]

    # -- what fits -----------------------------------------------------------------------------

    def _instead(self, student: Student, inputs: Tensor) -> LoopTrainer | None:
        """Return the fallback if it has to do it; say why, once per architecture."""
        name = student.architecture
        if name not in self._obstacles:
            with self._convolutions(inputs.device):
                self._obstacles[name] = obstacle(student.model, student.optimizer, inputs)
            if self._obstacles[name] is not None and self.fallback is not None:
                words = f"{self._refusal(name)}; its clients train one after the other."
                warnings.warn(words, LoopFallbackWarning, stacklevel=2)
        if self._obstacles[name] is not None and self.fallback is None:
            raise FedfuseError(self._refusal(name), next_step="Set trainer=auto or trainer=loop.")
        return None if self._obstacles[name] is None else self.fallback

    def _refusal(self, architecture: str) -> str:
        reason = self._obstacles[architecture]
        return f"Model '{architecture}' cannot be trained for many clients at once: {reason}"

    def _chunk(self, student: Student, inputs: Tensor, batch_size: int, count: int) -> int:
        """Return how many students train at once; it only ever shrinks, to keep matrices whole."""
        parameters = sum(parameter.nbytes for parameter in trained(student.optimizer))
        # A row, its gradient, two moments and two temporary values of the update.
        needed = 6 * parameters + batch_size * self._per_sample(student, inputs[:1])
        # What was, a row and two moments, is kept of all chunks.
        kept = 3 * parameters * count if self.atomic else 0
        fit = clients_that_fit(needed, inputs.device, "client.batch_size", kept)
        name = student.architecture
        self._chunks[name] = min(fit, self._chunks.get(name, fit))
        return self._chunks[name]

    def _per_sample(self, student: Student, sample: Tensor) -> int:
        if student.architecture not in self._bytes:
            with self._convolutions(sample.device):  # unfolded inputs are held, too
                self._bytes[student.architecture] = bytes_per_sample(student.model, sample)
        return self._bytes[student.architecture]

    def _convolutions(self, device: torch.device) -> AbstractContextManager[object]:
        if self.patches is None:
            return Patches(always=False) if device.type == "cuda" else PlainLayout()
        return Patches(always=True) if self.patches else PlainLayout()


def _key_of(loss: SampleLoss) -> Hashable:
    """Return what tells a loss from others; the recorded steps hold it, so its id is its own."""
    try:
        hash(loss)
    except TypeError:  # a frozen dataclass may hold a list
        return id(loss)
    return loss
