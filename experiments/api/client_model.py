"""A client's model as a run left it, for inputs as its data set holds them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.assembly.saved_models import SavedModels
from experiments.config.damaged import RESTORE
from experiments.config.instantiate import instantiate
from experiments.config.process_objects import is_process_object
from experiments.config.untrusted import check_targets, read_config, targets
from fedfuse.data.arrays import as_inputs
from fedfuse.data.tensors import normalise
from fedfuse.data.words import number_words
from fedfuse.errors import ConfigError, ModelError
from fedfuse.models.plan import as_plan, build_checked


class OnRawInputs(nn.Module):
    """A client's model behind its own preprocessing.

    Args:
        model: The model, to normalised inputs float32 [B, ...].
        saved: Shape and statistics of its inputs.
    """

    def __init__(self, model: nn.Module, saved: SavedModels) -> None:
        super().__init__()
        self.model = model
        self.input_shape, self.num_classes = saved.input_shape, saved.num_classes
        self.mean, self.std = saved.mean, saved.std

    def forward(self, inputs: Any) -> Tensor:
        """Return logits [B, C].

        Args:
            inputs: Images uint8 as the data set has them (also [B, height, width], and with the
                channels last), images of any float type [B, channels, height, width] with values
                from 0 to 255, or features [B, ...], as an array or a tensor; or texts.

        Raises:
            ModelError: If their shape is another.
        """
        if isinstance(inputs, list | tuple) and inputs and isinstance(inputs[0], str):
            length = self.input_shape[0] if len(self.input_shape) == 1 else 1
            inputs = number_words(inputs, length, "The inputs")
        try:
            tensor = inputs if isinstance(inputs, Tensor) else torch.from_numpy(np.array(inputs))
        except (TypeError, ValueError) as error:  # None, a list of lists of unequal lengths
            raise ModelError(
                "These are no inputs of the data set that the model learnt from",
                got=f"{inputs!r:.60}",
                allowed="an array, a tensor or, where it is one of texts, a list of texts",
            ) from error
        if tensor.dtype == torch.uint8 and self.mean:
            laid = as_inputs(tensor.cpu().numpy(), "The inputs")
            tensor = torch.from_numpy(np.ascontiguousarray(laid)).to(tensor.device)
        if tuple(tensor.shape[1:]) != self.input_shape:
            kind = "uint8 images" if self.mean else "features"
            raise ModelError(
                "These are no inputs of the data set that the model learnt from",
                got=f"{tensor.dtype} of shape {list(tensor.shape)}",
                allowed=f"{kind} of shape [B, {', '.join(map(str, self.input_shape))}]",
            )
        logits: Tensor = self.model(normalise(tensor.float(), self.mean, self.std))
        return logits


def load_client_model(
    folder: Path,
    client_id: int,
    *,
    model: object = None,
    trust: Iterable[str] = (),
    twin: bool = False,
) -> OnRawInputs:
    """Return the model that a client had at the end of a run, in eval mode, on the CPU.

    Args:
        folder: A run folder, whoever wrote it.
        client_id: Whose it is.
        model: What builds it, in place of what the configuration names.
        trust: Code that its configuration may name besides fedfuse's own, ``my_models.Net``.
        twin: Whether its local twin is meant, where a guard decided what it deploys.

    Raises:
        ConfigError: If the run left no models or has no such client; if the folder names other
            code, or is damaged.
    """
    saved = SavedModels.read(folder)
    weights = saved.weights(client_id, twin=twin)
    node = read_config(folder).get("model")
    if model is None:
        for where, target in targets({"model": node}):
            if is_process_object(target) and target not in trust:
                raise ConfigError(
                    f"the run in '{folder}' had a model of the Python process that began it",
                    got=f"{where}._target_={target}",
                    next_step="Give the class or function again: run.model(0, model=Net).",
                )
        check_targets({"model": node}, folder / "config.yaml", trust, how="trust=[{target!r}]")
        model = instantiate(node, "model")
    built = build_checked(as_plan(model), client_id, saved.input_shape, saved.num_classes, 0)
    try:
        built.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(
            f"the weights of client {client_id} in '{folder}' are those of another model",
            got=" ".join(str(error).split())[:200],
            next_step=RESTORE,
        ) from error
    return OnRawInputs(built, saved).eval()
