"""What several clients remember, as one piece: safetensors under ``ID/NAME``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fedfuse.errors import FedfuseError


def packed(states: Mapping[int, Mapping[str, Tensor]]) -> bytes:
    """Return the states of some clients as bytes."""
    flat: dict[str, Tensor] = {}
    for client_id, tensors in states.items():
        for name, value in tensors.items():
            # A copy of its own: some optimisers and codecs let tensors share their memory.
            flat[f"{client_id}/{name}"] = value.detach().cpu().contiguous().clone()
    return save(flat)


def unpacked(content: bytes, client_ids: Sequence[int]) -> dict[int, dict[str, Tensor]]:
    """Return what :func:`packed` made of the states of these clients.

    Raises:
        FedfuseError: If it is something else.
    """
    states: dict[int, dict[str, Tensor]] = {client_id: {} for client_id in client_ids}
    try:
        for name, value in load(content).items():
            owner, _, rest = name.partition("/")
            states[int(owner)][rest] = value
    except (SafetensorError, KeyError, ValueError) as error:
        raise FedfuseError(
            "The saved state of a client does not fit",
            got=str(error).splitlines()[0],
            next_step="Resume with the configuration and version that the run began with.",
        ) from error
    return states
