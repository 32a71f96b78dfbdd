"""Find the parts of the server that have a memory, save it and give it back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.protocols import Stateful

FORMER = {
    "plan.link": "plan.channel",
    "plan.purse": "plan.byte_budget",
    "clients.luck": "clients.faulty",
}
"""Former paths of parts to today's, so that older checkpoints still mean them."""


def stateful_parts(roots: Mapping[str, object]) -> dict[str, Stateful]:
    """Return every part with a memory that the fields of dataclasses lead to, by its path.

    Args:
        roots: Where to begin, by name.

    >>> from fedfuse.fusion.ktpfl import KTpFL
    >>> from fedfuse.fusion.controls import Shuffled
    >>> list(stateful_parts({"scorer": Shuffled(KTpFL())}))
    ['scorer.scorer']
    """
    return {path: part for name, root in roots.items() for path, part in _walk(root, name, set())}


def _walk(part: object, path: str, seen: set[int]) -> Iterator[tuple[str, Stateful]]:
    if id(part) in seen or isinstance(part, type):
        return
    seen.add(id(part))
    if isinstance(part, Stateful):
        yield path, part
    elif is_dataclass(part):
        for field in fields(part):
            yield from _walk(getattr(part, field.name), f"{path}.{field.name}", seen)


def collect(roots: Mapping[str, object]) -> dict[str, Tensor]:
    """Return the memory of every part, flat: ``PATH/NAME`` to tensor."""
    return {
        f"{path}/{name}": value
        for path, part in stateful_parts(roots).items()
        for name, value in part.state().items()
    }


def give_back(roots: Mapping[str, object], flat: Mapping[str, Tensor]) -> None:
    """Restore what :func:`collect` returned.

    Raises:
        FedfuseError: If a part is not there any more, or refuses its memory.
    """
    parts = stateful_parts(roots)
    memory: dict[str, dict[str, Tensor]] = {path: {} for path in parts}
    for key, value in flat.items():
        path, _, name = key.partition("/")
        path = FORMER.get(path, path)
        if path not in memory:
            raise FedfuseError(
                "The checkpoint holds the memory of a part that this run does not have",
                got=path,
                allowed=", ".join(parts) or "none",
                next_step="Resume with the version of fedfuse that began the run.",
            )
        memory[path][name] = value
    for path, part in parts.items():
        part.restore(memory[path])
