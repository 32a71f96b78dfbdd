"""Modules and weights that a user has in a file: TorchScript, exported programs, state dicts."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedfuse.errors import ModelError
from fedfuse.files.paths import expand
from fedfuse.user_code import brief

_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, EOFError, TypeError, AttributeError,
           AssertionError, pickle.UnpicklingError, zipfile.BadZipFile)  # fmt: skip
_ALLOWED = "a file of torch.export.save (.pt2), or of torch.jit.save"
_BY_WEIGHTS = (
    "Name the class that it is of, and load its weights: features=custom "
    "features.module._target_=my_models.Net features.weights_file=FILE."
)


def saved_module(path: str | Path) -> nn.Module:
    """Return a module that was saved with its code, on the CPU.

    Such a file is a program: take it from people that you trust, as you would a Python file. A
    module pickled by ``torch.save`` is refused; what is in it is known by its class's name only.

    Args:
        path: What ``torch.export.save`` or ``torch.jit.save`` wrote.

    Raises:
        ModelError: If it is missing, damaged, or something else.
    """
    file = _file(path, _ALLOWED)
    try:
        with zipfile.ZipFile(file) as opened:
            names = opened.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        weights = file.suffix == ".safetensors"
        raise ModelError(
            f"{file} is no saved module",
            got="weights alone" if weights else brief(error),
            allowed=_ALLOWED,
            next_step=_BY_WEIGHTS if weights else "Save it again, or copy it again.",
        ) from error
    scripted = any(name.endswith("/constants.pkl") for name in names)
    if not scripted and not any(name.endswith("/archive_format") for name in names):
        raise ModelError(
            f"{file} holds pickled objects or weights, and no module with its code",
            allowed=_ALLOWED,
            next_step=_BY_WEIGHTS,
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of TorchScript
            if scripted:
                module: nn.Module = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
                return module
            return torch.export.load(file).module()
    except _DAMAGE as error:
        raise ModelError(
            f"{file} cannot be loaded", got=brief(error), next_step="Save it again, or copy it."
        ) from error


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Set a module's weights and buffers to those in a file, all of them.

    Args:
        module: The module, changed in place.
        path: A safetensors file, or a state dict of ``torch.save``, perhaps under the key
            ``state_dict``; other pickled objects are refused, never loaded.

    Raises:
        ModelError: If the file is missing or damaged, or holds other weights than the module's.
    """
    file = _file(path, "a state dict: .safetensors, or of torch.save")
    state = _state(file)
    own = module.state_dict()
    missing, other = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    shaped = [n for n in own if n in state and own[n].shape != state[n].shape]
    if missing or other or shaped:
        told = (("missing", missing), ("of something else", other), ("of another shape", shaped))
        raise ModelError(
            f"The weights in {file} are not those of the module",
            got="; ".join(
                f"{word}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
                for word, names in told
                if names
            ),
            allowed=f"its {len(own)} weights and buffers, each in its shape",
            next_step="Set the module's parameters to what the weights were trained with.",
        )
    module.load_state_dict(state)


def _file(path: str | Path, allowed: str) -> Path:
    file = expand(path)
    if not file.is_file():
        what = f"{file} is a folder" if file.is_dir() else f"No file {file}"
        raise ModelError(what, allowed=allowed, next_step="Set the path to one; none is fetched.")
    return file


def _state(file: Path) -> Mapping[str, Tensor]:
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                return load_file(file)
            except SafetensorError as error:
                raise ValueError(str(error)) from error
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        objects = "weights_only" in str(error).lower()
        raise ModelError(
            f"{file} holds Python objects, which are never loaded"
            if objects
            else f"{file} cannot be read",
            got=None if objects else brief(error),
            allowed="a state dict: .safetensors, or of torch.save",
            next_step="Where you trust it, load it and write torch.save(model.state_dict(), FILE)."
            if objects
            else "Copy it or write it again.",
        ) from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ModelError(
            f"{file} holds no state dict",
            got=type(found).__name__,
            allowed="weights and buffers by name",
            next_step="Write it with torch.save(model.state_dict(), FILE).",
        )
    return found
