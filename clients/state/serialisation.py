"""What several clients remember, as one piece: safetensors under ``ID/NAME``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.files.state_files import framed


def packed(states: Mapping[int, Mapping[str, Tensor]]) -> bytes:
    """Return the states of some clients as bytes."""
    return as_file(
        {f"{i}/{name}": value for i, own in states.items() for name, value in own.items()}
    )


def as_file(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors, each by itself, as the bytes of a safetensors file.

    All numbers of one type leave the device together: a thousand clients have tens of thousands
    of tensors, and a GPU waits for every transfer.
    """
    alike: dict[tuple[torch.dtype, torch.device], list[tuple[str, Tensor]]] = {}
    for name, value in tensors.items():
        alike.setdefault((value.dtype, value.device), []).append((name, value.detach()))
    header, bodies, end = {}, list[memoryview](), 0
    # Wide numbers first, so that all of them lie where their type wants them.
    for (dtype, _), those in sorted(alike.items(), key=lambda item: -item[0][0].itemsize):
        for name, value in those:
            begin, end = end, end + value.numel() * dtype.itemsize
            shape = list(value.shape)
            header[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": [begin, end]}
        body = torch.cat([value.reshape(-1) for _, value in those]).cpu()
        bodies.append(body.view(torch.uint8).numpy().data)
    return framed(header, bodies)


_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8",
    torch.bool: "BOOL", torch.float8_e5m2: "F8_E5M2", torch.float8_e4m3fn: "F8_E4M3",
    torch.complex64: "C64",
}  # fmt: skip
"""What safetensors calls the types of numbers."""


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
