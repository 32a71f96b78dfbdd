"""Which keys can change what a client learns alone, and so who may be compared with whom."""

from __future__ import annotations

import hashlib
import json

from omegaconf import DictConfig

from experiments.config.former_names import NEWER, first, renamed
from experiments.config.plain import plain
from experiments.config.prior_use import BASELINE, uses_prior

FUSION_ONLY = frozenset(
    {
        "method",
        "scorer",
        "neighbours",
        "rule",
        "sharpen",
        "distill",
        "exchange",
        "merge",
        "merge_base",
        "attack",
        "extract",
        "student",
        "privacy",
        "cache",
        "guard",
        "codec",
        "uptake",
        "augment",
        "familiarity",
        "request",
        "answer",
        "wish",
        "filter",
        "temperature",
        "baseline",
        "budget_bytes",
        "local_loss",
        "prior",
        "server",
        "engine",
        "checkpoint",
        "reporter",
        "models",
    }
)
"""Top-level keys that cannot change what a client learns alone."""

FUSION_ONLY_CLIENT = frozenset(
    {"private_weight", "share_class_distribution", "left_out", "distill_lr"}
)
"""Keys of ``client`` of which the same is true."""

UNSAID = ("continue_from", "features", "lr_schedule", "private_augment")
"""Keys that say nothing of local training while they are as they were before there were such."""

HELD_IN = "fedfuse.participation.HeldIn"

OF_THE_PRIOR = ("prior", "local_loss", "evaluation.prior")
"""Keys and groups that cannot change plain local training, but its prior-corrected control."""

PROBES = ("probes", "probe_every", "probe_samples")
"""Keys of ``evaluation`` that say what models are asked beside the tests."""


def is_fusion_only(key: str) -> bool:
    """Tell whether a dotted key cannot change what a client learns alone, without a prior.

    >>> is_fusion_only("scorer.beta"), is_fusion_only("evaluation.every")
    (True, False)
    """
    top, _, rest = key.partition(".")
    of_client = top == "client" and rest in FUSION_ONLY_CLIENT
    return top in FUSION_ONLY or key in OF_THE_PRIOR or of_client


def baseline_identity(cfg: DictConfig, data_fingerprint: str, arm: str = BASELINE) -> str:
    """Return a hash of everything that a control, which learns alone, depends on.

    Args:
        cfg: The run's configuration.
        data_fingerprint: The data's.
        arm: Which control it is.
    """
    values = renamed(plain(cfg), first)
    kept = {name: value for name, value in values.items() if name not in FUSION_ONLY}
    for name in UNSAID:  # as it was before there was such a key
        if kept.get(name) == NEWER[name]:
            del kept[name]
    if kept["participation"]["_target_"] == HELD_IN:  # whom it holds out trains alone, too
        kept["participation"] = {"_target_": "fedfuse.participation.Everybody"}
    # With equal samples, local training learns from as many as the mixed batches have.
    free = FUSION_ONLY_CLIENT - ({"private_weight"} if kept["budget"] == "samples" else set())
    kept["client"] = {name: value for name, value in kept["client"].items() if name not in free}
    for name in ("clip_norm", "local_steps"):
        if kept["client"].get(name) is None:
            kept["client"].pop(name, None)
    tests = kept["evaluation"]
    # What nobody asks for is as it was before there were such keys.
    unasked = {"prior", *(() if tests["probes"] else PROBES)}
    kept["evaluation"] = {k: v for k, v in tests.items() if k not in unasked}
    if uses_prior(cfg):  # the controls correct for it, or tell what correcting them would give
        kept["prior"] = {"arm": arm, **values["prior"]}
    text = json.dumps([data_fingerprint, kept], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
