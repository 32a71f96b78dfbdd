"""Membership inference: can shared predictions tell which samples a model was trained on?

Scores are higher for suspected members. Two attacks on predictions whose labels are known:

* by loss (Yeom et al. 2018, https://arxiv.org/abs/1709.01604): a member's loss is lower;
* by shadow models (Shokri et al. 2017, https://arxiv.org/abs/1610.05820): models trained like the
  target on similar data tell how members look, and a classifier learns it. One classifier for all
  classes, a logistic regression on a few features; ours, not the paper's network per class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fedfuse.errors import DataError
from fedfuse.shapes import Float, Int
from fedfuse.validation import require_number

FALSE_POSITIVES = 0.01
"""The rate of false alarms at which hits are counted (Carlini et al. 2022)."""


@dataclass(frozen=True, slots=True)
class Attack:
    """How well an attack tells members from non-members.

    Args:
        auc: Probability that a random member scores above a random non-member; 0.5 is guessing.
        tpr: Share of the members found while at most 1% of the non-members are accused; 0.01 is
            guessing. Below 100 non-members no false alarm is allowed at all.
        num_members: How many were tried.
        num_others: Non-members, likewise.
    """

    auc: float
    tpr: float
    num_members: int
    num_others: int


def judge(members: Float[Tensor, " n"], others: Float[Tensor, " q"]) -> Attack:
    """Return how well the scores of members and non-members are apart.

    >>> judge(torch.tensor([3.0, 2.0]), torch.tensor([1.0, 2.0])).auc
    0.875
    """
    return Attack(auc(members, others), tpr_at(members, others), len(members), len(others))


def auc(members: Float[Tensor, " n"], others: Float[Tensor, " q"]) -> float:
    """Return the area under the ROC curve: P(member > other), ties counted half.

    >>> auc(torch.tensor([1.0, 1.0]), torch.tensor([1.0]))
    0.5
    """
    _check(members, others)
    ordered = others.sort().values
    below = torch.searchsorted(ordered, members, right=False)
    not_above = torch.searchsorted(ordered, members, right=True)
    return float((below + not_above).double().mean() / (2 * len(others)))


def tpr_at(
    members: Float[Tensor, " n"], others: Float[Tensor, " q"], fpr: float = FALSE_POSITIVES
) -> float:
    """Return the share of members above the lowest threshold with at most ``fpr`` false alarms.

    >>> tpr_at(torch.tensor([5.0, 3.0]), torch.tensor([1.0, 4.0]), fpr=0.01)
    0.5
    """
    _check(members, others)
    require_number("tpr_at", "fpr", fpr, at_least=0, below=1)
    allowed = int(fpr * len(others))
    threshold = others.sort(descending=True).values[allowed]
    return float((members > threshold).double().mean())


def loss_scores(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return the negative cross-entropy of each sample.

    >>> loss_scores(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    tensor([-0.1269], dtype=torch.float64)
    """
    return -F.cross_entropy(logits.double(), labels, reduction="none")


def features(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, "N 5"]:
    """Return what a shadow attack looks at.

    Per sample: loss, log-odds of the label (Carlini et al. 2022), entropy, largest log-probability
    and whether the label is the prediction.
    """
    logs = logits.double().log_softmax(dim=1)
    of_label = logs.gather(1, labels[:, None]).squeeze(1)
    others = logs.scatter(1, labels[:, None], -torch.inf)
    columns = (
        -of_label,
        of_label - others.logsumexp(dim=1),
        -(logs.exp() * logs).sum(dim=1),
        logs.amax(dim=1),
        (logs.argmax(dim=1) == labels).double(),
    )
    # A prediction that is certain has infinite odds in floating point.
    return torch.stack(columns, dim=1).clamp(-_LARGEST, _LARGEST)


@dataclass(frozen=True, slots=True)
class Shadow:
    """A logistic regression on standardised features, fitted to shadow models' predictions.

    Args:
        mean: [F], subtracted.
        scale: [F], divided by.
        weight: [F].
        bias: [].
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(
        cls, members: Float[Tensor, "n F"], others: Float[Tensor, "q F"], ridge: float = 1e-3
    ) -> Shadow:
        """Fit by Newton's method; members and others weigh the same whatever their numbers.

        Args:
            members: Features of samples that shadow models were trained on.
            others: Features of samples that they were not.
            ridge: Weight of the squared coefficients, which keeps separable data finite.
        """
        _check(members, others)
        raw = torch.cat([members, others]).double()
        scale, mean = torch.std_mean(raw, dim=0, correction=0)
        scale = torch.where(scale > 0, scale, 1.0)
        rows = torch.cat([(raw - mean) / scale, torch.ones(len(raw), 1).double()], dim=1)
        truth = torch.cat([torch.ones(len(members)), torch.zeros(len(others))]).double()
        mass = torch.where(truth > 0, 0.5 / len(members), 0.5 / len(others))
        penalty = ridge * torch.eye(rows.shape[1], dtype=torch.float64)
        penalty[-1, -1] = 1e-9  # the bias is free, but a singular matrix is of no use
        beta = torch.zeros(rows.shape[1], dtype=torch.float64)
        for _ in range(_NEWTON_STEPS):
            probs = torch.sigmoid(rows @ beta)
            gradient = rows.T @ (mass * (probs - truth)) + penalty @ beta
            curvature = (rows.T * (mass * probs * (1 - probs))) @ rows + penalty
            step = torch.linalg.solve(curvature, gradient)
            beta = beta - step * (_LONGEST_STEP / step.norm().clamp(min=_LONGEST_STEP))
            if float(step.norm()) < 1e-9:
                break
        return cls(mean, scale, beta[:-1], beta[-1])

    def __call__(self, features: Float[Tensor, "N F"]) -> Float[Tensor, " N"]:
        """Return the log-odds of membership."""
        return ((features.double() - self.mean) / self.scale) @ self.weight + self.bias


_LARGEST = 1e3
_NEWTON_STEPS = 50
_LONGEST_STEP = 5.0


def _check(members: Tensor, others: Tensor) -> None:
    if not len(members) or not len(others):
        raise DataError(
            "Membership inference needs members and non-members",
            got=f"{len(members)} and {len(others)}",
            allowed="at least one of each",
        )
