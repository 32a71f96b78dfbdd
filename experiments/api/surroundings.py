"""What a call changes of the process it runs in, put back as it was."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.version import VersionBase

from fedfuse.files.paths import expand

CACHE = "FEDFUSE_CACHE"


@contextmanager
def as_found() -> Iterator[None]:
    """Run a block and leave Hydra, torch's threads and all random numbers as they were.

    A notebook may have a Hydra application of its own, and draws its own random numbers.
    """
    hydra, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    base, stored = VersionBase.instance().getbase(), dict(ConfigStore.instance().repo)
    Plugins.instance()  # registers Hydra's readers of files, once
    readers = dict(SourcesRegistry.instance().types)
    threads, drawn = torch.get_num_threads(), torch.get_rng_state()
    numpys, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002 - just that
    cache = os.environ.get(CACHE)
    if cache:  # for the processes of a run that start in other folders
        os.environ[CACHE] = str(expand(cache).absolute())
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = hydra
        HydraConfig.instance().cfg = config
        VersionBase.instance().version_base = base
        ConfigStore.instance().repo = stored
        SourcesRegistry.instance().types = readers
        torch.set_num_threads(threads)
        torch.set_rng_state(drawn)
        np.random.set_state(numpys)  # noqa: NPY002
        random.setstate(pythons)
        if cache:
            os.environ[CACHE] = cache
