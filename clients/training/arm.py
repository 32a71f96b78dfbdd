"""What may differ between the arms of a run beside what is exchanged: the use of the label prior.

The baseline learns and is tested as if nobody knew of priors; the control beside it corrects for
its own, alone; the method does what it is configured to do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from fedfuse.local_loss import cross_entropy
from fedfuse.prior import FLOOR, add_prior, remove_prior
from fedfuse.protocols import LocalLoss
from fedfuse.validation import require_number, require_one_of

USES = ("none", "add", "subtract")


@dataclass(frozen=True, slots=True)
class TestPrior:
    """Which of a client's tests reads logits with its own prior added, or taken out.

    Args:
        use: ``add`` for logits free of the prior: it is added where the test is distributed as the
            client's data are (own test, validation). ``subtract`` for logits that carry it: it is
            taken out where all classes are alike (balanced test). ``none`` reads them as they are.
        tau: Strength.
        floor: Samples that an absent class counts for.
        post_hoc: Whether the balanced accuracy without the prior is told beside the metrics.
    """

    __test__ = False

    use: str = "none"
    tau: float = 1.0
    floor: float = FLOOR
    post_hoc: bool = False

    def __post_init__(self) -> None:
        require_one_of("evaluation", "prior", self.use, USES)
        require_number("prior", "tau", self.tau, at_least=0)
        require_number("prior", "floor", self.floor, above=0)

    @property
    def asked(self) -> bool:
        """Whether any metric depends on the prior."""
        return self.use != "none" or self.post_hoc

    def of_local_twins(self) -> TestPrior:
        """Return what the tests of models read that learned alone, with cross-entropy.

        Their logits carry the prior. Where the tests at hand do not care, neither do these.
        """
        return self if self.use == "none" else replace(self, use="subtract")

    def own(self, logits: Tensor, prior: Tensor | None) -> Tensor:
        """Return the logits [N, C] that answer a test distributed as the client's data."""
        adds = self.use == "add" and prior is not None
        return add_prior(logits, prior, self.tau) if adds else logits  # type: ignore[arg-type]

    def balanced(self, logits: Tensor, prior: Tensor | None) -> Tensor:
        """Return the logits [N, C] that answer a test in which all classes are alike."""
        takes = self.use == "subtract" and prior is not None
        return remove_prior(logits, prior, self.tau) if takes else logits  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class ArmSettings:
    """How the clients of an arm learn from their private data, and how they are tested.

    Args:
        local_loss: What steps on private data minimise.
        test_prior: What their tests read.
    """

    local_loss: LocalLoss = cross_entropy
    test_prior: TestPrior = field(default_factory=TestPrior)
