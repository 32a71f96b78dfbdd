"""In which numbers a model computes: float32, or bfloat16 where that loses nothing that counts."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum

import torch


class Precision(StrEnum):
    """Number format of the forward and backward passes; parameters stay float32."""

    FP32 = "fp32"
    BF16 = "bf16"
    """Matrix products and convolutions in bfloat16, the rest in float32 (torch's autocast)."""

    def context(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which a model has to be called.

        >>> with Precision.BF16.context(torch.device("cpu")):
        ...     (torch.ones(1, 2) @ torch.ones(2, 1)).dtype
        torch.bfloat16
        """
        if self is Precision.FP32:
            return nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)
