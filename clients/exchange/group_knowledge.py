"""FedGKT, FedDKC: features, logits and labels of private samples go up, a server's logits down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from clients.exchange.feature_predictions import showing
from clients.exchange.private_answers import private_answers
from clients.exchange.protocol import Tools
from clients.exchange.taught_samples import TaughtSamples
from fedfuse.errors import ModelError, ParameterError
from fedfuse.exchange.congruence import Refinement
from fedfuse.exchange.group_knowledge import GroupServer, SampleKnowledge, SampleTeachers
from fedfuse.exchange.kind import Kind
from fedfuse.models.features import feature_size
from fedfuse.models.layer import WithLayer, layer_shape
from fedfuse.models.plan import as_plan, build_checked, one_of_each
from fedfuse.protocols import ModelPlan
from fedfuse.rng import Streams
from fedfuse.train.trainer import Student
from fedfuse.types import FederatedData
from fedfuse.validation import require_count, require_number


@dataclass(frozen=True, slots=True)
class GroupKnowledge(TaughtSamples):
    """Exchange knowledge of private samples with a model on the server (He et al. 2020).

    A client is its whole model, extractor and head, and is tested as that; the server's model goes
    on from the features. All clients' features travel with one size: what goes into the last linear
    layer with ``width`` numbers, through a fixed random orthogonal map where a model has another
    number of them; what a named layer returns as it is, in one shape for all.

    Args:
        model: The server's model: a plan or a factory of features' shape and classes.
        layer: Name of the layer whose output is sent; None for what goes into the last linear one.
        width: D without a layer; None for the features of the smallest model.
        refine: ``none``, or FedDKC's refinement of the clients' logits by which the server learns:
            one largest probability for all (``peak``), or one ``entropy``.
        peak: Of the refinement: the largest probability times C.
        sharpness: What logits are divided by before the peak is moved.
        entropy: Of the refinement: over log C.
        epochs: Passes of the server's model over the samples that came.
        batch_size: Samples per step of the server's model.
        learning_rate: Of its Adam.
        seed: Of its weights and shuffles.
    """

    model: object = field(kw_only=True)
    layer: str | None = None
    width: int | None = None
    refine: str = "none"
    peak: float = 1.2
    sharpness: float = 0.05
    entropy: float = 0.963
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    needs_sample_counts: ClassVar[bool] = True
    sends_of_samples: ClassVar[str] = "labels, logits and features of all private samples"

    def __post_init__(self) -> None:
        TaughtSamples.__post_init__(self)
        name = type(self).__name__
        if self.width is not None:
            require_count(name, "width", self.width)
        require_count(name, "epochs", self.epochs)
        require_count(name, "batch_size", self.batch_size)
        require_number(name, "learning_rate", self.learning_rate, above=0)
        _ = self.refinement
        object.__setattr__(self, "model", as_plan(self.model))
        if self.layer is not None:  # layers of an nn.Sequential are called 0, 1, ...
            object.__setattr__(self, "layer", str(self.layer))

    @property
    def refinement(self) -> Refinement:
        """What the server learns of the clients' logits."""
        return Refinement(self.refine, self.peak, self.sharpness, self.entropy, self.temperature)

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return what is known of each client's samples, and their teachers.

        Raises:
            ModelError: If a model's features cannot be told, or they have no one shape.
            ParameterError: If no prediction of so many classes has such a peak.
        """
        if self.refine == "peak" and self.peak >= data.num_classes:
            raise ParameterError(
                "GroupKnowledge", "peak", self.peak, f"below {data.num_classes}, the classes"
            )
        size = torch.Size(self.shape(models, data)).numel()
        counts = [len(client.train) for client in data.clients]
        sizes: dict[str, int | tuple[int, ...]] = {
            "D": size,
            "N": tuple(counts),
            "L": tuple(count * data.num_classes for count in counts),
            "F": tuple(count * size for count in counts),
        }
        return Kind(SampleKnowledge, SampleTeachers, sizes)

    def shape(self, models: ModelPlan, data: FederatedData) -> tuple[int, ...]:
        """Return the shape of a sample's features.

        Raises:
            ModelError: As :meth:`kind`.
        """
        each = one_of_each(models, data)
        if self.layer is None:
            sizes = [feature_size(model, data.num_classes) for model in each.values()]
            return (min(sizes) if self.width is None else self.width,)
        shapes = {n: layer_shape(m, self.layer, data.input_shape) for n, m in each.items()}
        if len(set(shapes.values())) > 1:
            raise ModelError(
                f"The layer '{self.layer}' returns features of several shapes",
                got=", ".join(f"{list(shape)} in '{name}'" for name, shape in shapes.items()),
                allowed="one shape",
                next_step="Set exchange.layer=null, or choose a method that shares predictions.",
            )
        return next(iter(shapes.values()))

    def combine(self, models: ModelPlan, data: FederatedData) -> GroupServer:
        """Return the server's model and how it learns."""
        shape, streams = self.shape(models, data), Streams(self.seed)
        entropy = streams.entropy("init", "exchange")
        owner = "the server (exchange.model)"
        return GroupServer(
            build_checked(self.model, 0, shape, data.num_classes, entropy, owner=owner),  # type: ignore[arg-type]
            shape,
            data.num_classes,
            streams,
            self.refinement,
            self.alpha,
            self.temperature,
            self.epochs,
            self.batch_size,
            self.learning_rate,
        )

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> SampleKnowledge:  # noqa: ARG002
        """Return features, logits and labels of the clients' private samples, in eval mode."""
        num_classes = tools.inputs.data.num_classes
        asked = private_answers([self.showing(student, tools) for student in held], tools)
        sides = [side.cpu() for side, _, _ in asked]
        sizes = torch.tensor([len(side) for side in sides])
        return SampleKnowledge(
            client_ids=torch.tensor([student.client_id for student in held]),
            sizes=sizes,
            logit_sizes=sizes * num_classes,
            feature_sizes=sizes * tools.width,
            labels=torch.cat([labels.cpu() for _, _, labels in asked]).int(),
            logits=torch.cat([side[:, :num_classes].flatten() for side in sides]),
            features=torch.cat([side[:, num_classes:].flatten() for side in sides]),
        )

    def showing(self, student: Student, tools: Tools) -> Student:
        """Return a client whose model returns the features that travel beside its logits."""
        if self.layer is None:
            return showing(student, tools)
        return replace(student, model=WithLayer(student.model, self.layer))
