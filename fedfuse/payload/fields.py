"""What a payload declares of its fields: dimensions, type, bounds; and whether it does so."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from fedfuse.errors import ConfigError

SIMPLEX_TOLERANCE = 1e-3
"""How far a row of probabilities may be from summing to 1; what float16 codecs need."""

LARGEST_LOGIT = 1e9
"""Beyond it one finite number makes sums of squares, and so everybody's teacher, infinite. It
bounds features, too."""

MOST_EXAMPLES = 2**40
"""The most samples that a client may claim to have; sums of such claims stay within int64."""

DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
)
"""Types of numbers that travel."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the numbers of a field must be; they are finite in any case.

    Args:
        least: The smallest.
        most: The largest.
        sum_to_one: Whether each row along the last dimension is a distribution.
        may_be_nan: Whether NaN stands for "none".
        unit: What is counted, for messages.
    """

    least: float = -math.inf
    most: float = math.inf
    sum_to_one: bool = False
    may_be_nan: bool = False
    unit: str = ""


FINITE = Bounds()
LOGITS = Bounds(-LARGEST_LOGIT, LARGEST_LOGIT)
COUNTS = Bounds(0, MOST_EXAMPLES, unit="samples")
NOT_NEGATIVE = Bounds(0)
SIMPLEX = Bounds(-SIMPLEX_TOLERANCE, sum_to_one=True)  # rounding may leave a hair below 0
OR_NAN = Bounds(may_be_nan=True)


@dataclass(frozen=True, slots=True)
class ArrayField:
    """A tensor of a payload.

    Args:
        dims: Names of its dimensions. ``K`` clients come first; ``P`` public samples and ``C``
            classes are known, a number is itself, and the size of any other is for the exchange's
            :class:`~fedfuse.exchange.kind.Kind` to say.
        dtype: Its type, one of :data:`DTYPES`.
        bounds: What its numbers must be.
        only_if: Name and value of a field of text that the bounds depend on; with another value
            the numbers need only be finite.
        lengths: The field, int64 [K], that says how many elements of this one, which is flat, are
            each client's; None where all have as many.
        most: The largest size of a dimension that nobody asks for by number.
        own: Whether it is about the client alone, so that no two clients are sent the same.
        may_be_empty: Whether a client may send none of it, where it has ``lengths``: it has before.
        asked: Whether it travels where the exchange's :class:`~fedfuse.exchange.kind.Kind` asks for
            it, and nowhere else; it is optional then.
    """

    dims: str
    dtype: torch.dtype = torch.float32
    bounds: Bounds = FINITE
    only_if: tuple[str, str] | None = None
    lengths: str | None = None
    most: int | None = None
    own: bool = False
    may_be_empty: bool = False
    asked: bool = False


@dataclass(frozen=True, slots=True)
class TextField:
    """A word out of a ``StrEnum``, or distinct printable names; the same for all clients.

    Args:
        dim: The dimension whose size is the number of names, if there is one.
    """

    dim: str | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """A field as a payload declares it.

    Args:
        field: What it holds.
        kind: Its type: a tensor, a ``StrEnum`` or a tuple of names.
        optional: Whether it may be None, and then does not travel.
        addresses: Whether it frames and names what is exchanged, and does not count as bytes.
    """

    field: ArrayField | TextField
    kind: Any
    optional: bool
    addresses: bool


_SCHEMAS: dict[type, dict[str, Declared]] = {}
_FLAT: dict[type, dict[str, str]] = {}


def schema(cls: type) -> dict[str, Declared]:
    """Return what a payload declares of its fields.

    Raises:
        ConfigError: If it is no payload, naming what is missing.
    """
    if cls not in _SCHEMAS:
        _SCHEMAS[cls] = _read(cls)
    return _SCHEMAS[cls]


def flat_fields(cls: type) -> dict[str, str]:
    """Return the fields that hold as much of each client as another field says: name to lengths."""
    if cls not in _FLAT:
        _FLAT[cls] = {
            name: declared.field.lengths
            for name, declared in schema(cls).items()
            if isinstance(declared.field, ArrayField) and declared.field.lengths
        }
    return _FLAT[cls]


def _read(cls: type[Any]) -> dict[str, Declared]:
    what = getattr(cls, "__name__", str(cls))
    if "client_ids" not in getattr(cls, "__dataclass_fields__", ()):
        raise ConfigError(
            f"{what} is no payload",
            allowed="a frozen dataclass that inherits fedfuse.payload.Payload",
        )
    # Without a decorator of its own it is its parent's dataclass, and none of its fields is one.
    own = cls.__dict__.get("__dataclass_params__")
    if own is None or not own.frozen:
        raise ConfigError(
            f"The payload {what} is not a frozen dataclass",
            next_step=f"Decorate class {what} as a frozen dataclass with slots.",
        )
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise ConfigError(
            f"The fields of payload {what} cannot be read",
            got=str(error),
            next_step="Import the names that its annotations use at the top of its module.",
        ) from error
    found = {f.name: _declared(what, f.name, hints[f.name]) for f in fields(cls)}
    lengths = {
        declared.field.lengths
        for declared in found.values()
        if isinstance(declared.field, ArrayField)
    }
    for name in lengths - {None}:
        given = found.get(name or "")
        if given is None or given.field not in (_LENGTHS, replace(_LENGTHS, bounds=FINITE)):
            raise ConfigError(
                f"The payload {what} has no field '{name}' of lengths",
                allowed=f'{name}: Annotated[Tensor, ArrayField("K", torch.int64, NOT_NEGATIVE)]',
            )
    return {
        name: replace(declared, addresses=declared.addresses or name in lengths)
        for name, declared in found.items()
    }


_LENGTHS = ArrayField("K", torch.int64, NOT_NEGATIVE)


def _declared(payload: str, name: str, hint: Any) -> Declared:
    """Return one field's declaration, or say how to write it."""
    given = [item for item in getattr(hint, "__metadata__", ()) if _is_field(item)]
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    alternatives = get_args(kind) if not isinstance(kind, type) else ()
    optional = type(None) in alternatives
    if optional:
        [kind] = [item for item in alternatives if item is not type(None)]
    where = f"The field '{name}' of payload {payload}"
    if len(given) != 1:
        raise ConfigError(
            f"{where} does not declare what it holds",
            allowed=f'{name}: Annotated[Tensor, ArrayField("K C")], or a TextField',
        )
    field = given[0]
    if isinstance(field, TextField):
        words = isinstance(kind, type) and issubclass(kind, StrEnum)
        if optional or not (words or get_origin(kind) is tuple):
            raise ConfigError(f"{where} is no text", allowed="a StrEnum, or tuple[str, ...]")
        return Declared(field, kind, optional=False, addresses=True)
    if kind is not Tensor:
        raise ConfigError(f"{where} is no tensor", got=str(kind), allowed="Tensor, Tensor | None")
    if field.dtype not in DTYPES:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise ConfigError(
            f"{where} has a type that does not travel", got=field.dtype, allowed=allowed
        )
    dims = field.dims.split()
    if field.lengths is None and dims[:1] != ["K"]:
        raise ConfigError(
            f"{where} does not have a row per client",
            got=f'"{field.dims}"',
            allowed='dimensions that begin with K, as in "K C", or lengths="FIELD"',
        )
    if field.asked and not optional:
        raise ConfigError(f"{where} is asked for by some only", allowed="Tensor | None")
    if field.lengths is not None and (len(dims) != 1 or dims == ["K"] or optional):
        raise ConfigError(
            f"{where} has lengths and is not flat",
            got=f'"{field.dims}"',
            allowed='one dimension that is not K, as in "N"',
        )
    return Declared(field, kind, optional, addresses=name == "client_ids")


def _is_field(item: object) -> bool:
    return isinstance(item, ArrayField | TextField)
