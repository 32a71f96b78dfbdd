"""From a cohort's predictions to what leaves the clients: adjust, attack, extract, privacy.

Every stage takes the bank of the cohort and returns the bank that goes on
(:class:`fedfuse.protocols.SharingStage`); None leaves a stage out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from fedfuse.attack.stage import RECEIVED, AttackStage
from fedfuse.declarations import part_name
from fedfuse.errors import FedfuseError
from fedfuse.privacy.stage import PrivacyStage
from fedfuse.protocols import SharingStage
from fedfuse.sharing_context import SharingContext
from fedfuse.types import KnowledgeBank, Teachers


@dataclass(frozen=True, slots=True)
class Sharing:
    """The stages between a model's predictions and the message.

    Args:
        adjust: What is taken out of the predictions that others learn from; an attack forges what
            is left.
        attack: What a client that does not play by the rules makes of its knowledge.
        extract: What of the predictions is shared; None for the logits as they are.
        privacy: What protects the private data; an attacker does not get around it.
    """

    adjust: SharingStage | None = None
    attack: SharingStage | None = None
    extract: SharingStage | None = None
    privacy: SharingStage | None = None

    def __call__(self, bank: KnowledgeBank, context: SharingContext) -> KnowledgeBank:
        """Return what the clients of the cohort send.

        Raises:
            FedfuseError: If a stage answers for other clients or other samples.
        """
        for stage in self._stages():
            made = stage(bank, context)
            same = made.client_ids.tolist() == bank.client_ids.tolist()
            if not (same and made.logits.shape == bank.logits.shape):
                raise FedfuseError(
                    f"{part_name(stage)} did not return the knowledge of its clients",
                    got=f"{list(made.logits.shape)} of the clients {made.client_ids.tolist()}",
                    allowed=f"{list(bank.logits.shape)} of {bank.client_ids.tolist()}",
                )
            bank = made
        return bank

    def begin(self, memory: dict[str, Tensor]) -> None:
        """Let a client make up what it must remember before it ever shares: its secret."""
        if isinstance(self.privacy, PrivacyStage):
            self.privacy.begin(memory)

    def note(self, received: Teachers, memory: Mapping[int, dict[str, Tensor]]) -> None:
        """Let adversaries remember what they were sent."""
        if isinstance(self.attack, AttackStage):
            for row, client_id in enumerate(received.client_ids.tolist()):
                if client_id in self.attack.adversaries:
                    memory[client_id][RECEIVED] = received.targets[row].clone()

    def honest(self) -> Iterator[SharingStage]:
        """Yield the stages of a client that plays by the rules."""
        return (stage for stage in (self.adjust, self.extract, self.privacy) if stage is not None)

    def plain(self, bank: KnowledgeBank, context: SharingContext) -> KnowledgeBank:
        """Return predictions in the space of what is shared: of nobody's lie, without noise."""
        for stage in (self.adjust, self.extract):
            bank = bank if stage is None else stage(bank, context)
        return bank

    def _stages(self) -> Iterator[SharingStage]:
        stages = (self.adjust, self.attack, self.extract, self.privacy)
        return (stage for stage in stages if stage is not None)
