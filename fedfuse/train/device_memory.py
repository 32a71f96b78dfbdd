"""How many clients fit: measured on the model at hand, compared with what the device has free."""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from fedfuse.errors import FedfuseError

SHARE = 0.8
"""Of the free memory; the rest is for other processes and the allocator's gaps."""


def bytes_per_sample(model: nn.Module, inputs: Tensor) -> int:
    """Return the bytes that one sample's forward and backward pass hold on to.

    Counts what autograd keeps of two samples more than of one (so parameters do not count), twice:
    once for the values and once for their gradients.

    Args:
        model: Left as it is.
        inputs: At least one sample [N, ...].

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    >>> bytes_per_sample(net, torch.zeros(1, 4))  # input and output of 4 and 8 floats, twice
    96
    """
    tried = copy.deepcopy(model).eval()
    one = inputs[:1]
    more = _held(tried, torch.cat([one, one])) - _held(tried, one)
    return max(2 * more, one.nbytes)


def free_bytes(device: torch.device) -> int:
    """Return the memory that new tensors on the device can use."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    if sys.platform != "linux":
        import psutil

        return int(psutil.virtual_memory().available)
    # The same number, so that on Linux the science needs torch and numpy alone.
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text("ascii"))
    assert found, "Linux has it since 3.14"
    return int(found[1]) * 1024


def clients_that_fit(per_client: int, device: torch.device, setting: str, kept: int = 0) -> int:
    """Return how many clients can be worked on at once.

    Args:
        per_client: Bytes that one client needs.
        device: Where.
        setting: The key to lower if not even one fits.
        kept: Bytes that are needed besides, however many work at once.

    Raises:
        FedfuseError: If one client does not fit.
    """
    free = free_bytes(device)
    fit = (int(SHARE * free) - kept) // per_client
    if fit < 1:
        raise FedfuseError(
            f"One client does not fit into the memory of device {device}",
            got=f"{_format_size(per_client + kept)} needed, {_format_size(free)} free",
            next_step=f"Lower {setting}, or choose a smaller model.",
        )
    return fit


def _held(model: nn.Module, inputs: Tensor) -> int:
    """Return the bytes of the tensors that autograd saves, each storage once."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
        kept = model(inputs)  # as long as it lives, no storage is used twice
        del kept
    return sum(sizes.values())


def _format_size(size: int) -> str:
    """Return a size in words.

    >>> _format_size(3 * 2**29)
    '1.5 GiB'
    """
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
