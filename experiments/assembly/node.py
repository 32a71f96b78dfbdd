"""Turn the parts of a run into a node and its clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from clients.node import Node
from clients.sharing.chain import Sharing
from clients.sharing.channel import ClientChannel
from clients.sharing.own_choice import OwnChoice
from clients.training.arm import ArmSettings, TestPrior
from clients.training.settings import ClientPlan
from experiments.assembly.attack import build_attack
from experiments.assembly.parts import (
    Parts,
    build_device,
    build_probes,
    build_rates,
    build_rounds,
    build_select,
    build_trainer,
    fastest,
)
from experiments.assembly.privacy import build_privacy
from experiments.config.instantiate import instantiate
from experiments.config.prior_use import BASELINE, trains_otherwise, uses_prior
from fedfuse.compare import ADJUSTED
from fedfuse.extract import Adjusted, AdjustStage, ExtractStage, Logits
from fedfuse.local_loss import BalancedSoftmax, trained_tau
from fedfuse.protocols import DistillLoss
from fedfuse.rng import Streams
from fedfuse.train.trainer import Trainer


def build_sharing(parts: Parts) -> Sharing:
    """Return what happens to predictions before they leave a client."""
    extract, adjust = parts.channel.extract, None
    if isinstance(extract, Adjusted):
        adjust = AdjustStage(extract, trained_tau(instantiate(parts.cfg.local_loss, "local_loss")))
    return Sharing(
        adjust=adjust,
        attack=build_attack(parts.cfg, parts.data),
        extract=None if isinstance(extract, Logits) else ExtractStage(extract),
        privacy=build_privacy(parts.cfg, build_rounds(parts.cfg, parts.data)),
    )


def build_arms(cfg: DictConfig) -> dict[str, ArmSettings]:
    """Return how arms learn and are tested; nothing in a run whose arms all do alike."""
    if not trains_otherwise(cfg):
        return {}
    tau, floor = cfg.prior.tau, cfg.prior.floor
    tested = TestPrior(cfg.evaluation.prior, tau, floor)
    method = {cfg.method.name: ArmSettings(instantiate(cfg.local_loss, "local_loss"), tested)}
    if not uses_prior(cfg):
        return method
    return {
        **method,
        BASELINE: ArmSettings(test_prior=TestPrior("none", tau, floor, post_hoc=True)),
        ADJUSTED: ArmSettings(BalancedSoftmax(tau, floor), TestPrior("add", tau, floor)),
    }


def build_own_choice(parts: Parts) -> OwnChoice | None:
    """Return what clients choose by their own predictions; None for nothing."""
    answer, wish = (instantiate(parts.cfg[slot], slot) for slot in ("answer", "wish"))
    if answer is None and wish is None:
        return None
    plain, num_public = build_sharing(parts).plain, len(parts.data.public)
    return OwnChoice(answer, wish, parts.cfg.temperature, plain, num_public)


def build_node(
    parts: Parts,
    client_ids: Sequence[int],
    on_client_done: Callable[[int], None] = lambda _: None,
    wrap: Callable[[Trainer], Trainer] | None = None,
) -> Node:
    """Return the node that hosts ``client_ids``.

    Args:
        parts: The run's parts.
        client_ids: Whom it hosts.
        on_client_done: Called with the id of each client that has finished a phase.
        wrap: Puts a trainer of its own around the one that the configuration asks for.
    """
    cfg = parts.cfg
    client = cfg.client
    loss: DistillLoss | None = None
    if parts.pipeline is not None:
        loss = instantiate(cfg.distill, "distill")
    trainer = build_trainer(cfg, parts.exchange, loss)
    return Node(
        client_ids=tuple(client_ids),
        data=parts.data,
        models=parts.models,
        make_optimizer=fastest(instantiate(cfg.optimizer, "optimizer")),
        loss=loss,
        plan=ClientPlan(
            batch_size=client.batch_size,
            local_epochs=client.local_epochs,
            distill_epochs=client.distill_epochs,
            distill_batch_size=client.distill_batch_size,
            private_weight=client.private_weight,
            distill_lr=client.distill_lr,
            local_steps=client.local_steps,
            init=client.init,
            optimizer_state=client.optimizer_state,
            threads=client.threads,
            share_class_distribution=client.share_class_distribution,
            budget=cfg.budget,
            eval_batch_size=cfg.evaluation.batch_size,
            left_out=client.left_out,
        ),
        streams=Streams(cfg.seed),
        exchange=parts.exchange,
        select=build_select(cfg),
        familiarity=instantiate(cfg.familiarity, "familiarity"),
        sharing=build_sharing(parts),
        pretraining=parts.pretraining,
        initial=None if parts.continued is None else parts.continued.weights,
        attacked=cfg.num_rounds if cfg.evaluation.membership else 0,
        shadows=cfg.evaluation.shadow_models,
        channel=ClientChannel(parts.channel),
        augment=instantiate(cfg.augment, "augment"),
        uptake=instantiate(cfg.uptake, "uptake"),
        own_choice=build_own_choice(parts),
        arms=build_arms(cfg),
        probes=build_probes(cfg),
        probe_samples=cfg.evaluation.probe_samples,
        private_augment=instantiate(cfg.private_augment, "private_augment"),
        rates=build_rates(cfg),
        guard=instantiate(cfg.guard, "guard"),
        trainer=trainer if wrap is None else wrap(trainer),
        device=build_device(client.device, "client.device"),
        isolates=not cfg.server.fail_fast,
        on_client_done=on_client_done,
    )
