"""What exchanges cost in bytes, by formula: to plan a run, and to check what codecs really send.

Sizes as everywhere: m public samples of a round, C classes; ``value_bytes`` is the b of the field's
papers, 4 for float32. Everything is per client and one way.
"""

from __future__ import annotations

import math


def dense_bytes(num_samples: int, num_classes: int, value_bytes: int = 4) -> int:
    """Return ``m C b``: whole predictions.

    >>> dense_bytes(1000, 10)
    40000
    """
    return num_samples * num_classes * value_bytes


def uint8_bytes(num_samples: int, num_classes: int, *, logits: bool) -> int:
    """Return ``m C``, and ``8 m`` more for logits: two floats per row."""
    return num_samples * (num_classes + (8 if logits else 0))


def top_k_bytes(num_samples: int, num_classes: int, k: int, value_bytes: int = 4) -> int:
    """Return ``m k (b + ceil(log2(C) / 8))``: k probabilities and their classes.

    >>> top_k_bytes(1000, 10, k=3)
    15000
    """
    class_bytes = max(1, math.ceil(math.log2(num_classes) / 8))
    return num_samples * min(k, num_classes) * (value_bytes + class_bytes)


def quantized_bytes(num_samples: int, num_classes: int, bits: int) -> int:
    """Return CFD's size without an entropy coder: class ids for one bit, else b bits per class.

    >>> quantized_bytes(1000, 10, bits=1), quantized_bytes(1000, 10, bits=2)
    (500, 2500)
    """
    per_sample = math.ceil(math.log2(num_classes)) if bits == 1 else bits * num_classes
    return math.ceil(num_samples * per_sample / 8)


def one_bit_entropy_bytes(num_samples: int, num_classes: int) -> int:
    """Return ``ceil(m log2(C) / 8)``: one-hot labels of equally likely classes, coded ideally.

    >>> one_bit_entropy_bytes(1000, 10)
    416
    """
    return math.ceil(num_samples * math.log2(num_classes) / 8)


def mask_bytes(num_samples: int) -> int:
    """Return ``ceil(m / 8)``: one bit per sample (Selective-FD's choice, a codec's flags)."""
    return math.ceil(num_samples / 8)


def score_bytes(num_samples: int, value_bytes: int = 4) -> int:
    """Return ``m b``: one confidence per sample."""
    return num_samples * value_bytes


def epd_bytes(num_classes: int, value_bytes: int = 4) -> int:
    """Return ``C b``: one class distribution."""
    return num_classes * value_bytes


def index_bytes(num_samples: int) -> int:
    """Return ``4 m``: a list of the round's samples; 0 where both sides draw it from one seed."""
    return 4 * num_samples


def cache_bytes(num_samples: int, num_fresh: int, num_classes: int, value_bytes: int = 4) -> int:
    """Return what comes down with SCARLET's cache: fresh targets and a signal for every sample."""
    return dense_bytes(num_fresh, num_classes, value_bytes) + num_samples


def class_logits_bytes(num_classes: int, value_bytes: int = 4) -> int:
    """Return ``C C b + ceil(C / 8)``: FD's mean logits per class, and which classes are there.

    >>> class_logits_bytes(10)
    402
    """
    return num_classes**2 * value_bytes + mask_bytes(num_classes)


def prototype_bytes(num_classes: int, feature_size: int, value_bytes: int = 4) -> int:
    """Return ``C d b + ceil(C / 8)``: FedProto's class means, and which classes are there."""
    return num_classes * feature_size * value_bytes + mask_bytes(num_classes)


def weight_bytes(num_parameters: int, value_bytes: int = 4) -> int:
    """Return ``P b``: one model.

    >>> weight_bytes(1_663_370)  # 166 times 1,000 predictions of 10 classes
    6653480
    """
    return num_parameters * value_bytes


def federation_bytes(
    up: int, down: int, num_clients: int, *, broadcast: bool = False
) -> tuple[int, int]:
    """Return the bytes of a round over all clients, up and down.

    Args:
        up: Bytes one client sends.
        down: Bytes one client receives.
        num_clients: K, those taking part.
        broadcast: Count what comes down once for all; a personal teacher cannot be broadcast.

    >>> federation_bytes(40_000, 40_000, 10, broadcast=True)
    (400000, 40000)
    """
    return num_clients * up, down if broadcast else num_clients * down


def break_even_samples(num_parameters: int, num_classes: int) -> float:
    """Return ``P / C``: with more public samples a round than that, weights are cheaper.

    The same number of bytes per value is presumed on both sides.

    >>> break_even_samples(100_000, 100)
    1000.0
    """
    return num_parameters / num_classes


def break_even_for(weights: int, sample_bytes: float) -> float:
    """Return how many public samples cost as much as the weights, for any codec.

    Args:
        weights: Bytes of the model as it would be sent.
        sample_bytes: Bytes a public sample costs, as measured.

    >>> break_even_for(weight_bytes(100_000), sample_bytes=0.5)
    800000.0
    """
    return weights / sample_bytes
