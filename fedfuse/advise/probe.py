"""A short probe of a federation as features: only what a real federation would have seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SHRINK = 20.0
"""A client's validation result counts like that of its federation over so many samples."""

FEATURES = {
    "skew": "samples times squared lack of classes (log2)",
    "val_gain": "validation accuracy: fused minus alone",
    "val_loss_gain": "validation loss: alone minus fused, of their sum",
    "val_alone": "validation accuracy alone",
    "size": "private samples (log2)",
    "classes": "classes its predictions name, share of all",
    "epd_distance": "distance of its class distribution from the federation's",
    "entropy": "how unsure its predictions are",
    "teacher_entropy": "how unsure its teacher is",
    "disagreement": "public samples its teacher puts elsewhere",
    "self_weight": "weight of its own knowledge",
}
"""What advice rests on, and the words for it."""


@dataclass(frozen=True)
class Probe:
    """What the first rounds of a run showed of K clients; NaN where a client has no number.

    Args:
        method: The method that was probed.
        num_classes: C.
        rounds: Rounds of the probe.
        samples: Private training samples, [K].
        label_classes: Of how many classes each client's training labels are, the exponential of
            their entropy, [K]: one number, which a client may tell.
        val_samples: Samples held back for validation, [K].
        val_accuracy: Validation accuracy after the last round of the probe, [K].
        val_loss: Mean negative log-likelihood on them, nats, [K].
        alone_accuracy: The same of the clients' twins that learned alone, [K].
        alone_loss: Likewise, [K].
        shown: ``epd_classes``, ``epd_distance``, ``entropy``, ``teacher_entropy``,
            ``disagreement`` (:func:`fedfuse.advise.signals.shown`) and ``self_weight``, [K] each.
    """

    method: str
    num_classes: int
    rounds: int
    samples: Array
    label_classes: Array
    val_samples: Array
    val_accuracy: Array
    val_loss: Array
    alone_accuracy: Array
    alone_loss: Array
    shown: Mapping[str, Array]

    @property
    def num_clients(self) -> int:
        """Return K."""
        return len(self.samples)

    def clients(self) -> Array:
        """Return every client's features in the order of :data:`FEATURES`, [K, F].

        Validation sets are small (a tenth of 50 samples is 5), so what one client's says is drawn
        toward its federation's mean: n samples of its own count n / (n + 20).
        """
        losses = (self.alone_loss - self.val_loss) / (self.alone_loss + self.val_loss + 0.1)
        own = self.val_samples / (self.val_samples + SHRINK)
        columns = {
            "skew": np.log2(self.samples * (1 - self.label_classes / self.num_classes) ** 2 + 0.5),
            "val_gain": _shrunk(self.val_accuracy - self.alone_accuracy, own),
            "val_loss_gain": _shrunk(losses, own),
            "val_alone": _shrunk(self.alone_accuracy, own),
            "size": np.log2(np.maximum(self.samples, 1)),
            "classes": self.shown["epd_classes"] / self.num_classes,
        }
        columns |= {name: self.shown[name] for name in FEATURES if name not in columns}
        return np.column_stack([columns[name] for name in FEATURES])

    def federation(self) -> Array:
        """Return the mean features over the clients that took part, [F]."""
        return np.asarray(np.nanmean(self.clients(), axis=0))


def beside_federation(clients: Array) -> Array:
    """Return each client's features as the federation's means and its distances from them.

    Args:
        clients: [K, F].

    Returns:
        [K, 2F]: what is alike for all, and how this client differs.
    """
    mean = np.nanmean(clients, axis=0)
    return np.column_stack([np.broadcast_to(mean, clients.shape), clients - mean])


def _shrunk(values: Array, own: Array) -> Array:
    """Return values drawn toward their mean; one without any is the mean."""
    mean = np.nanmean(values) if np.isfinite(values).any() else np.nan
    return np.asarray(np.where(np.isfinite(values), mean + own * (values - mean), mean))
