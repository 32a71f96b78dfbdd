"""How the samples of a batch lie to each other, matched in the place of what each of them is.

Each loss compares the rows of one client's batch, so it declares ``relational``: clients are
trained one after the other. A batch of one has no relations and loses 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fedfuse.shapes import Float
from fedfuse.types import Space
from fedfuse.validation import require_count, require_number

EPS = 1e-8
"""Least deviation that is divided by: what varies less hardly correlates."""


def relation_graph(
    student: Float[Tensor, "B D"],
    teacher: Float[Tensor, "B D"],
    tau: float = 1.0,
    neighbours: int | None = None,
) -> Float[Tensor, " B"]:
    """Return KL of each row's distribution over the other rows by cosine, teacher || student.

    Args:
        student: Rows of numbers; a probability for each class, or features.
        teacher: The same samples' rows.
        tau: Temperature of the softmax over the rows.
        neighbours: Other rows that count, those nearest in the teacher's graph (all that tie); None
            for all.
    """
    return neighbourhoods(_cosines(student) / tau, _cosines(teacher) / tau, neighbours)


def neighbourhoods(
    student: Float[Tensor, "B B"], teacher: Float[Tensor, "B B"], neighbours: int | None = None
) -> Float[Tensor, " B"]:
    """Return KL of each row's softmax over the other rows, teacher || student; alone it is 0.

    Args:
        student: How near its rows are to each other, as logits; the diagonal is not read.
        teacher: The same of the teacher's.
        neighbours: As in :func:`relation_graph`.
    """
    batch = len(student)
    if batch == 1:
        return 0 * student.sum(dim=-1)
    left_out = torch.eye(batch, dtype=torch.bool, device=student.device)
    near = teacher.masked_fill(left_out, -torch.inf)
    if neighbours is not None and neighbours < batch - 1:
        left_out = near < near.topk(neighbours, dim=-1).values[..., -1:]  # itself is
        near = near.masked_fill(left_out, -torch.inf)
    theirs = near.log_softmax(dim=-1)
    ours = student.masked_fill(left_out, -torch.inf).log_softmax(dim=-1)
    apart = (theirs - ours).masked_fill(left_out, 0)
    return (theirs.exp() * apart).sum(dim=-1)


def dist(
    student: Float[Tensor, "B C"],
    teacher: Float[Tensor, "B C"],
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Float[Tensor, " B"]:
    """Return ``beta (1 - corr of the row) + gamma (1 - mean corr of the columns)``, Pearson's.

    What does not vary correlates with nothing. The second term is the batch's, alike in all rows.
    """
    if len(student) == 1:
        return 0 * student.sum(dim=-1)
    within = 1 - _correlation(student, teacher, dim=-1)
    between = 1 - _correlation(student, teacher, dim=-2).mean(dim=-1, keepdim=True)
    return beta * within + gamma * between


def similarity(student: Float[Tensor, "B D"], teacher: Float[Tensor, "B E"]) -> Float[Tensor, " B"]:
    """Return ``||G_t[b] - G_s[b]||**2 / B``, G the rows' inner products over each row's norm."""
    theirs, ours = (F.normalize(rows @ rows.mT, dim=-1) for rows in (teacher, student))
    return (theirs - ours).square().mean(dim=-1)


def cross_correlation(
    student: Float[Tensor, "B C"], teacher: Float[Tensor, "B C"]
) -> Float[Tensor, "C C"]:
    """Return ``z_s^T z_t / B`` of columns in units of their deviation, of B - 1 as torch's is.

    What does not vary correlates with nothing.
    """

    def standard(rows: Tensor) -> Tensor:
        return (rows - rows.mean(dim=0)) / rows.std(dim=0).clamp_min(EPS)

    return standard(student).mT @ standard(teacher) / len(student)


def _cosines(rows: Tensor) -> Tensor:
    towards = F.normalize(rows, dim=-1)
    return towards @ towards.mT


def _correlation(one: Tensor, other: Tensor, dim: int) -> Tensor:
    one, other = (rows - rows.mean(dim=dim, keepdim=True) for rows in (one, other))
    return F.cosine_similarity(one, other, dim=dim, eps=EPS)


@dataclass(frozen=True, slots=True)
class RelationGraph:
    """Match each sample's neighbourhood in the batch, by cosine of predicted probabilities.

    The graph of Token-level Relationship Graphs (arXiv 2306.12442) on probabilities, which is ours;
    without its contrastive term and its graph within a picture. Times T squared.

    Args:
        tau: Temperature of the softmax over the other samples.
        neighbours: Samples nearest to each in the teacher's graph that count; null for all.
        temperature: T of the student's softmax; take that of the teacher's probabilities.
    """

    tau: float = 1.0
    neighbours: int | None = None
    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES
    relational: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("RelationGraph", "tau", self.tau, above=0)
        if self.neighbours is not None:
            require_count("RelationGraph", "neighbours", self.neighbours)
        require_number("RelationGraph", "temperature", self.temperature, above=0)

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
    ) -> Float[Tensor, " B"]:
        """Return each sample's share of the loss."""
        probs = (student_logits / self.temperature).softmax(dim=-1)
        return self.temperature**2 * relation_graph(probs, targets, self.tau, self.neighbours)


@dataclass(frozen=True, slots=True)
class DIST:
    """Correlate: a sample's classes with the teacher's, and a class's samples (arXiv 2205.10536).

    Any positive affine map of the teacher's rows and columns loses nothing. Times T squared.

    Args:
        beta: Weight of the classes within each sample.
        gamma: Weight of the samples within each class.
        temperature: T of the student's softmax; take that of the teacher's probabilities.
    """

    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES
    relational: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("DIST", "beta", self.beta, at_least=0)
        require_number("DIST", "gamma", self.gamma, at_least=0)
        require_number("DIST", "temperature", self.temperature, above=0)

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
    ) -> Float[Tensor, " B"]:
        """Return each sample's share of the loss."""
        probs = (student_logits / self.temperature).softmax(dim=-1)
        return self.temperature**2 * dist(probs, targets, self.beta, self.gamma)


@dataclass(frozen=True, slots=True)
class CrossCorrelation:
    """Let each class's logits go with the teacher's of that class, and against those of others.

    ``sum_u (C_uu - 1)**2 + off_diagonal sum_{u != v} (C_uv + 1)**2``, C the batch's
    cross-correlation of logits (FCCL, Huang et al., CVPR 2022). It is the batch's, alike in all
    rows.

    Args:
        off_diagonal: Weight of the pairs of different classes.
    """

    off_diagonal: float = 0.0051
    space: ClassVar[Space] = Space.LOGITS
    relational: ClassVar[bool] = True
    least_where_agreeing: ClassVar[bool] = False  # agreeing classes correlate with one another

    def __post_init__(self) -> None:
        require_number("CrossCorrelation", "off_diagonal", self.off_diagonal, at_least=0)

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
    ) -> Float[Tensor, " B"]:
        """Return the batch's loss for each sample."""
        batch = len(student_logits)
        if batch == 1:
            return 0 * student_logits.sum(dim=-1)
        pairs = cross_correlation(student_logits, targets)
        same = pairs.diagonal()
        others = (pairs + 1).square().sum() - (same + 1).square().sum()
        loss = (same - 1).square().sum() + self.off_diagonal * others
        return loss.expand(batch)


@dataclass(frozen=True, slots=True)
class Similarity:
    """Match the batch's table of inner products (similarity-preserving, arXiv 1907.09682).

    There of features, here of predicted probabilities. Times T squared.

    Args:
        temperature: T of the student's softmax; take that of the teacher's probabilities.
    """

    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES
    relational: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("Similarity", "temperature", self.temperature, above=0)

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
    ) -> Float[Tensor, " B"]:
        """Return each sample's share of the loss."""
        probs = (student_logits / self.temperature).softmax(dim=-1)
        return self.temperature**2 * similarity(probs, targets)
