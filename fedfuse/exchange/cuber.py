"""Would learning from a source serve the receiver's own data? Told by the gradients of both.

Beyond Not-Forgetting: Continual Learning with Backward Knowledge Transfer (CUBER, Lin et al. 2022,
https://arxiv.org/abs/2211.00789) lets an old task be changed where its gradient and the new one's
agree. Between clients, whose sources are each other, the form is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedfuse.shapes import Float, Int
from fedfuse.validation import require_number, require_one_of

_NOTHING = 1e-12  # norm of a gradient below which it has no direction
_ALIKE = 1e-6  # difference of two probabilities that float32 logits may leave between equal ones


@dataclass(frozen=True, slots=True)
class Said:
    """What a client's model says of n samples.

    Args:
        logits: float32 [n, C].
        features: What goes into its last linear layer, float32 [n, d].
    """

    logits: Tensor
    features: Tensor


def cosines(own: Float[Tensor, " N"], others: Float[Tensor, "S N"]) -> Float[Tensor, " S"]:
    """Return the cosine of a gradient and each of others; 0 where one of both has no direction.

    >>> cosines(torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]]))
    tensor([ 0.7071, -0.7071,  0.0000])
    """
    lengths = own.norm() * others.norm(dim=1)
    found = (others @ own) / lengths.clamp_min(_NOTHING)
    return torch.where(lengths > _NOTHING, found, 0.0).clamp(-1, 1)


def last_layer(
    errors: Float[Tensor, "*batch n C"], features: Float[Tensor, "n d"]
) -> Float[Tensor, "*batch N"]:
    """Return the gradient of a mean loss with respect to the last layer's weights and biases, flat.

    Args:
        errors: The loss's gradient with respect to each sample's logits.
        features: What went into the layer.
    """
    inputs = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
    return (errors.transpose(-1, -2) @ inputs / max(len(features), 1)).flatten(-2)


@dataclass(frozen=True, slots=True)
class Cuber:
    """Judge each source by the cosine of two gradients of the receiver's last layer.

    One is that of the cross-entropy on the receiver's private data, the other that of
    ``KL(p_j || p_i)`` on the public samples, which learning from source j descends. A twin, from
    whom there is nothing to learn, has 0.

    Args:
        temperature: Of the predictions that are learned.
        layers: Whose gradients; ``last`` is all there is.
    """

    temperature: float = 1.0
    layers: str = "last"

    def __post_init__(self) -> None:
        require_number("Cuber", "temperature", self.temperature, above=0)
        require_one_of("Cuber", "layers", self.layers, ("last",))

    def __call__(
        self,
        private: Said,
        labels: Int[Tensor, " n"],
        public: Said,
        peers: Float[Tensor, "S m C"],
    ) -> Float[Tensor, " S"]:
        """Return what each source is worth to the receiver, -1 to 1.

        Args:
            private: What the receiver says of its private samples.
            labels: Theirs.
            public: What it says of the public samples.
            peers: What each source says of these, logits.
        """
        wanted = one_hot(labels, private.logits.shape[1]).double()
        errors = private.logits.double().softmax(dim=1) - wanted
        own = last_layer(errors, private.features.double())
        said, theirs = (
            (logits.double() / self.temperature).softmax(dim=-1)
            for logits in (public.logits, peers.to(public.logits.device))
        )
        learned = said - theirs
        found = cosines(own, last_layer(learned, public.features.double()))
        # What rounding leaves of a twin's gradient points anywhere.
        apart = learned.abs().flatten(1).amax(dim=1) > _ALIKE
        return torch.where(apart, found, 0.0).float()
