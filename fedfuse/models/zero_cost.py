"""Choose what clients run without training anything: the candidate most like a larger teacher.

DisWOT (Dong et al. 2023, https://arxiv.org/abs/2303.15678), read in its authors' code: teacher and
candidate, both untrained, see one batch, and a candidate is scored by how alike they relate its
samples, or the classes. There the inputs are real and candidates come from an evolutionary search;
here inputs are drawn (all that is known are shapes) and the candidates are a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from fedfuse.errors import ModelError, require
from fedfuse.models.assign import Same, Table, adapted
from fedfuse.models.features import WithFeatures
from fedfuse.models.plan import build_checked
from fedfuse.protocols import ModelFactory
from fedfuse.rng import Streams
from fedfuse.shapes import Float, Int
from fedfuse.validation import require_count, require_one_of

OWNER, LEAVE_OUT = "model=zero_cost", "Leave it out: ~model.candidates.{}"
LARGEST = "largest"
SCORES = ("relation", "class", "both")


def relation_score(teacher: Float[Tensor, "b d"], student: Float[Tensor, "b e"]) -> float:
    """Return how alike two networks relate the samples of a batch by their features, 0 at most.

    >>> round(relation_score(torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])), 6)
    -0.292893
    """
    return -_distance(teacher, student) / len(teacher) ** 2


def class_score(teacher: Float[Tensor, "C d"], student: Float[Tensor, "C e"], batch: int) -> float:
    """Return how alike two networks relate the classes by :func:`head_gradient`, 0 at most."""
    return -_distance(teacher, student) / (len(teacher) * batch)


def head_gradient(
    logits: Float[Tensor, "b C"], features: Float[Tensor, "b d"], labels: Int[Tensor, " b"]
) -> Float[Tensor, "C d"]:
    """Return the gradient of the mean cross-entropy by the last layer's weight, float64."""
    wrong = logits.double().softmax(dim=1) - functional.one_hot(labels, logits.shape[1])
    return wrong.T @ features.double() / len(labels)


def _distance(one: Tensor, other: Tensor) -> float:
    """Return the squared distance of two Gram matrices [n, n], their rows made of length 1."""
    first, second = (
        functional.normalize(rows.double() @ rows.double().T, dim=1) for rows in (one, other)
    )
    return float((first - second).square().sum())


@dataclass(frozen=True, slots=True)
class ZeroCost:
    """Give each client the candidate within its budget that is most like the teacher, untrained.

    Args:
        candidates: Name to factory.
        num_clients: K.
        max_parameters: The budget, parameters of a client's model; of a list, client k has number
            k modulo its length. A teacher within the budget is its own best student.
        seed: Of weights and inputs, drawn from N(0, 1), and of labels.
        teacher: A candidate's name, or ``largest``, the one with the most parameters.
        batch: Inputs that the networks are compared on.
        score: ``relation``, ``class`` (the published search) or ``both``, their sum. Labels that
            are drawn have nothing to do with the inputs: on them ``class`` is mostly chance.
    """

    candidates: Mapping[str, ModelFactory]
    num_clients: int
    max_parameters: int | Sequence[int]
    seed: int
    teacher: str = LARGEST
    batch: int = 64
    score: str = "relation"

    def __post_init__(self) -> None:
        owner, budgets = "ZeroCost", self.max_parameters
        object.__setattr__(self, "candidates", adapted(owner, "candidates", self.candidates))
        require_count(owner, "num_clients", self.num_clients)
        if isinstance(budgets, str) or not isinstance(budgets, Sequence):
            budgets = [budgets]
        require(len(budgets) > 0, owner, "max_parameters", budgets, "a number or a list of them")
        for budget in budgets:
            require_count(owner, "max_parameters", budget)
        object.__setattr__(self, "max_parameters", tuple(budgets))
        require_one_of(owner, "teacher", self.teacher, (LARGEST, *self.candidates))
        require_count(owner, "batch", self.batch, at_least=2)
        require_one_of(owner, "score", self.score, SCORES)
        Streams(self.seed)

    def at_shape(self, input_shape: tuple[int, ...], num_classes: int) -> Table:
        """Return which client runs which candidate.

        Raises:
            ModelError: If no candidate is within a budget, or one cannot be built or compared.
        """
        assert isinstance(self.max_parameters, Sequence)
        built = {name: self._build(name, input_shape, num_classes) for name in self.candidates}
        sizes = {name: sum(p.numel() for p in model.parameters()) for name, model in built.items()}
        affordable = [
            [name for name, size in sizes.items() if size <= budget]
            for budget in self.max_parameters
        ]
        if [] in affordable:
            raise ModelError(
                f"No candidate of {OWNER} is within max_parameters",
                got=self.max_parameters[affordable.index([])],
                allowed=", ".join(f"{name} has {size:,}" for name, size in sizes.items()),
                next_step="Raise model.max_parameters, or add a smaller candidate.",
            )
        scores = self._scores(built, sizes, input_shape, num_classes)
        choices = [max(names, key=scores.__getitem__) for names in affordable]
        table = [choices[client % len(choices)] for client in range(self.num_clients)]
        return Table(self.candidates, table)

    def _build(self, name: str, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Return a candidate with weights from N(0, 1) in its linear and convolutional layers."""
        streams, plan = Streams(self.seed), Same(self.candidates[name], name)
        entropy = streams.entropy("zero_cost", name)
        model = build_checked(plan, 0, input_shape, num_classes, entropy, owner=OWNER)
        draw = streams.torch("zero_cost", name, "weights")
        for layer in model.modules():
            if isinstance(layer, nn.Linear | _ConvNd):
                nn.init.normal_(layer.weight, generator=draw)
        return model

    def _scores(
        self,
        built: Mapping[str, nn.Module],
        sizes: Mapping[str, int],
        input_shape: tuple[int, ...],
        num_classes: int,
    ) -> dict[str, float]:
        """Return each candidate's score, by name; the teacher's is 0, the largest there is."""
        draw = Streams(self.seed).torch("zero_cost", "batch")
        inputs = torch.randn(self.batch, *input_shape, generator=draw)
        labels = torch.randint(num_classes, (self.batch,), generator=draw)
        seen: dict[str, tuple[Tensor, Tensor]] = {}
        for name, model in built.items():
            logits, features = _answer(name, model, inputs, num_classes)
            seen[name] = features, head_gradient(logits, features, labels)
        largest = max(sizes, key=sizes.__getitem__)
        features, gradient = seen[largest if self.teacher == LARGEST else self.teacher]
        relation = {name: relation_score(features, own) for name, (own, _) in seen.items()}
        classes = {name: class_score(gradient, own, self.batch) for name, (_, own) in seen.items()}
        by_name = {"relation": relation, "class": classes}
        wanted = by_name.values() if self.score == "both" else [by_name[self.score]]
        return {name: sum(scores[name] for scores in wanted) for name in built}


def _answer(
    name: str, model: nn.Module, inputs: Tensor, num_classes: int
) -> tuple[Float[Tensor, "b C"], Float[Tensor, "b d"]]:
    """Return a candidate's logits and features."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # of dropout
            seen = WithFeatures(model, num_classes)(inputs)
    except ModelError as error:
        raise ModelError(
            error.what, got=error.got, allowed=error.allowed, next_step=LEAVE_OUT.format(name)
        ) from error
    if not seen.isfinite().all():
        raise ModelError(
            f"Candidate '{name}' of {OWNER} does not answer in finite numbers",
            got="weights drawn from N(0, 1)",
            next_step=LEAVE_OUT.format(name),
        )
    return seen[:, :num_classes], seen[:, num_classes:]
