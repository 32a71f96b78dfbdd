"""A privacy mechanism as a stage on the way from predictions to the message."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from fedfuse.errors import FedfuseError
from fedfuse.occasion import Occasion
from fedfuse.privacy.protocol import Privacy
from fedfuse.types import KnowledgeBank


@dataclass(frozen=True, slots=True)
class PrivacyStage:
    """Let a mechanism change every client's logits with the client's own random numbers.

    Args:
        mechanism: What changes them.
    """

    mechanism: Privacy

    def __call__(self, bank: KnowledgeBank, occasion: Occasion) -> KnowledgeBank:
        """Return the bank with protected logits [k, m, C]; nothing else in it changes.

        Raises:
            FedfuseError: If the mechanism returns something else than finite logits.
        """
        protected = torch.empty_like(bank.logits)
        for row, client_id in enumerate(bank.client_ids.tolist()):
            logits = bank.logits[row]
            sent = self.mechanism(logits, occasion.generator(client_id, "privacy"))
            if sent.shape != logits.shape or not bool(torch.isfinite(sent).all()):
                raise FedfuseError(
                    f"The privacy mechanism broke its promise for client {client_id}",
                    got=f"{list(sent.shape)}, {int((~torch.isfinite(sent)).sum())} not finite",
                    allowed=f"finite logits {list(logits.shape)}",
                )
            protected[row] = sent
        return replace(bank, logits=protected)
