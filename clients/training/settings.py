"""How clients train: the hyperparameters that all of them share."""

from __future__ import annotations

from dataclasses import dataclass

from fedfuse.validation import require_count, require_number, require_one_of

BUDGETS = ("optimiser_steps", "samples", "bytes", "rounds")
"""What arms of one comparison may have in common, beside their rounds."""

LEFT_OUT = ("skip", "visit")
"""What public samples of weight 0 cost in distillation: no step, or as much as others."""


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """How every client trains.

    Args:
        batch_size: Private samples per step.
        local_epochs: Passes over the private data per round.
        local_steps: Private steps per round in the place of those passes; None for passes.
        distill_epochs: Passes over the public set per round.
        distill_batch_size: Public samples per step.
        private_weight: Weight of the private cross-entropy mixed into distillation; 0 for none.
        init: ``shared`` gives clients of one architecture the same initial weights,
            ``per_client`` draws them for each.
        optimizer_state: ``keep`` carries the optimiser's moments from phase to phase and round
            to round; ``reset`` starts them afresh at every phase; ``separate`` keeps those of
            distillation and those of private steps apart, as two optimisers do.
        distill_lr: Learning rate of distillation's own optimiser; None for the optimiser's.
        threads: torch threads per client; reductions depend on it, so it is the same everywhere.
        share_class_distribution: Whether the label histogram may leave the client.
        budget: What a client does in the place of distillation when nothing came back: as many
            steps on its private data, or with ``samples`` as many samples.
        eval_batch_size: Samples per forward pass when predicting and evaluating.
        left_out: What public samples that do not count cost in distillation: ``skip``, no step;
            ``visit``, as much as any other, as it was before there was a choice.
    """

    batch_size: int
    local_epochs: int
    distill_epochs: int
    distill_batch_size: int
    private_weight: float
    init: str
    optimizer_state: str
    threads: int
    share_class_distribution: bool
    budget: str
    eval_batch_size: int
    left_out: str = "skip"
    distill_lr: float | None = None
    local_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "distill_batch_size", "threads", "eval_batch_size"):
            require_count("client", name, getattr(self, name))
        for name in ("local_epochs", "distill_epochs", "private_weight"):
            require_number("client", name, getattr(self, name), at_least=0)
        require_one_of("client", "budget", self.budget, BUDGETS)
        require_one_of("client", "left_out", self.left_out, LEFT_OUT)
        require_one_of("client", "init", self.init, ("shared", "per_client"))
        require_one_of(
            "client", "optimizer_state", self.optimizer_state, ("keep", "reset", "separate")
        )
