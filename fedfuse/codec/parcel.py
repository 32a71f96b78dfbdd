"""Knowledge or teachers as a codec writes them: the arrays that travel, for any number of clients.

Counted are the encoded predictions, the mask (one bit a sample) and everything that goes with
them; not counted is what frames them, as it is for arrays that travel as they are: names, shapes,
client ids and whose part ends where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedfuse.codec.features import FEATURES, features_of, with_features
from fedfuse.codec.packing import pack, unpack
from fedfuse.codec.protocol import Codec, Encoded, State
from fedfuse.errors import KnowledgeError
from fedfuse.extract import Logits
from fedfuse.payload import ArrayField
from fedfuse.payload.fields import LOGITS, OR_NAN
from fedfuse.protocols import Extract
from fedfuse.shapes import Bool, Int
from fedfuse.types import KnowledgeBank, Space, Teachers
from fedfuse.wire.schema import Expectation, check_header, check_ids, check_values

ENCODED, LENGTHS, MASK, SPACE = "encoded/", "lengths/", "mask_bits", "space"
EXTRA_FIELDS = {
    "num_examples": ArrayField("K", torch.int64),
    "class_distribution": ArrayField("K C"),
    "confidence": ArrayField("K P"),
    "estimate": ArrayField("K C", asked=True),
    "sample_weight": ArrayField("K P"),
    "signals": ArrayField("K P", torch.uint8),
    "prototypes": ArrayField("K C D", asked=True),
    "present": ArrayField("K C", torch.bool, asked=True),
    "efficiency": ArrayField("K", bounds=OR_NAN, asked=True),
}
"""What may go with the predictions, as it is."""
BIT_FIELDS = {"wishes": "wish_bits"}
"""What may go with them as one bit a sample, bool [K, P], and what it is called then."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Encoded predictions of k clients, or for k clients.

    Args:
        client_ids: int64 [k].
        encoded: Their predictions, and which samples they are for.
        extras: Whatever goes with them, one row per client (:data:`EXTRA_FIELDS`,
            :data:`BIT_FIELDS`).
        width: Numbers per sample of features that go with them; 0 for none.
    """

    client_ids: Int[Tensor, " k"]
    encoded: Encoded
    extras: dict[str, Tensor] = field(default_factory=dict)
    width: int = 0

    def rows(self, index: Int[Tensor, " j"]) -> Parcel:
        """Return the parcel of the clients at the positions ``index``, in that order."""
        extras = {name: value[index] for name, value in self.extras.items()}
        return Parcel(self.client_ids[index], self.encoded.rows(index), extras, self.width)

    @classmethod
    def stack(cls, parcels: Sequence[Parcel]) -> Parcel:
        """Join parcels of different clients, ordered by client id."""
        joined = cls(
            torch.cat([parcel.client_ids for parcel in parcels]),
            Encoded.stack([parcel.encoded for parcel in parcels]),
            {
                name: torch.cat([parcel.extras[name] for parcel in parcels])
                for name in parcels[0].extras
            },
            parcels[0].width,
        )
        order = torch.argsort(joined.client_ids)
        return joined if bool((order.diff() > 0).all()) else joined.rows(order)

    @property
    def num_bytes(self) -> int:
        """Return what travels, in bytes."""
        return sum(len(part) for part in self._parts())

    @property
    def distinct_bytes(self) -> int:
        """Return what travels if a message that several clients get is sent once to all of them."""
        return sum(len(part) for part in set(self._parts()))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what travels by name."""
        encoded = self.encoded
        arrays = {"client_ids": self.client_ids, **self._shown()}
        arrays |= {ENCODED + name: array for name, array in encoded.arrays.items()}
        arrays |= {LENGTHS + name: count for name, count in encoded.lengths.items()}
        named = {name: array.contiguous().numpy() for name, array in arrays.items()}
        return named | {SPACE: np.frombuffer(encoded.space.encode(), dtype=np.uint8)}

    @staticmethod
    def exchanged_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> int:
        """Return the bytes of these arrays that count."""
        framing = ("client_ids", SPACE)
        return sum(
            array.nbytes
            for name, array in arrays.items()
            if name not in framing and not name.startswith(LENGTHS)
        )

    @staticmethod
    def is_in(arrays: Mapping[str, Any]) -> bool:
        """Return whether these arrays are a parcel's."""
        return any(name.startswith(ENCODED) for name in arrays)

    @classmethod
    def read(cls, arrays: Mapping[str, npt.NDArray[Any]], expect: Expectation) -> Parcel:
        """Return the parcel that ``arrays`` hold, after checking everything but the code itself.

        Raises:
            KnowledgeError: If something is missing, unknown or of another type, shape or length.
        """
        sizes = {
            "K": (len(expect.client_ids), "what was asked for"),
            "P": (expect.num_public, "what was asked for"),
            "C": (expect.num_classes, "what was asked for"),
        }
        sizes |= {dim: size for dim, size in expect.known().items() if dim == "D"}
        num_clients = len(expect.client_ids)
        flat, lengths, extras = {}, {}, {}
        mask = space = None
        check_header("client_ids", arrays.get("client_ids"), ArrayField("K", torch.int64), sizes)
        check_ids(torch.from_numpy(np.array(arrays["client_ids"])), expect)
        for name, array in arrays.items():
            if name.startswith(ENCODED):
                flat[name.removeprefix(ENCODED)] = _flat(name, array)
            elif name.startswith(LENGTHS):
                check_header(name, array, ArrayField("K", torch.int64), sizes)
                lengths[name.removeprefix(LENGTHS)] = torch.from_numpy(np.array(array))
            elif name == MASK:
                mask = _bits(name, array, sizes)
            elif name in BIT_FIELDS.values():
                field_name = next(key for key, word in BIT_FIELDS.items() if word == name)
                extras[field_name] = _bits(name, array, sizes)
            elif name == SPACE:
                space = _space(array)
            elif name in EXTRA_FIELDS and (name in expect.asked or not EXTRA_FIELDS[name].asked):
                check_header(name, array, EXTRA_FIELDS[name], sizes)
                extras[name] = torch.from_numpy(np.array(array))
            elif name != "client_ids":
                raise _damaged(f"an unknown array {name!r}")
        asked = {FEATURES, *(name for name, field_ in EXTRA_FIELDS.items() if field_.asked)}
        beside = {*extras, *flat} & asked
        if space is None or flat.keys() != lengths.keys() or beside != expect.asked:
            raise _damaged(f"the arrays {sorted(arrays)}")
        for name, count in lengths.items():
            if _wrong(count, len(flat[name])):
                raise _damaged(f"{len(flat[name])} elements in '{name}' for {count.tolist()[:10]}")
        shape = num_clients, expect.num_public, expect.num_classes
        ids = torch.tensor(expect.client_ids)
        width = sizes["D"][0] if FEATURES in flat else 0
        return cls(ids, Encoded(flat, lengths, shape, space, mask), extras, width)

    def _shown(self) -> dict[str, Tensor]:
        """Return what travels beside the encoded predictions, by the name that it has there."""
        shown = {name: value for name, value in self.extras.items() if name not in BIT_FIELDS}
        bits = {word: self.extras[name] for name, word in BIT_FIELDS.items() if name in self.extras}
        if self.encoded.mask is not None:
            bits[MASK] = self.encoded.mask
        return shown | {name: pack(value.to(torch.uint8), 2) for name, value in bits.items()}

    def _parts(self) -> list[bytes]:
        """Return the bytes that count, client by client."""
        shown = self._shown()
        return [
            b"".join(piece.contiguous().numpy().tobytes() for piece in part.values())
            + b"".join(value[row].contiguous().numpy().tobytes() for value in shown.values())
            for row, part in enumerate(self.encoded.parts())
        ]


def seal_knowledge(
    bank: KnowledgeBank,
    codec: Codec,
    state: State,
    extract: Extract = Logits(),  # noqa: B008 - frozen
) -> tuple[Parcel, State]:
    """Return the bank as the codec writes what is shared of it, and the sender's next state."""
    shared = extract.shared(bank.logits)
    encoded, after = codec.encode(shared, extract.space, state, bank.mask)
    return _parcel(bank, encoded, _extras(bank)), after


def open_knowledge(
    parcel: Parcel,
    codec: Codec,
    state: State,
    extract: Extract = Logits(),  # noqa: B008 - frozen
) -> tuple[KnowledgeBank, State]:
    """Return what the server reads, and its next state."""
    if parcel.encoded.space is not extract.space:
        raise _damaged(f"{parcel.encoded.space} where {extract.space} were asked for")
    features, encoded = features_of(parcel.encoded, parcel.width)
    shared, after = codec.decode(encoded, state)
    logits = extract.read(shared)
    named = {f.name for f in fields(KnowledgeBank)} - {"num_examples"}
    extras = {name: value for name, value in parcel.extras.items() if name in named}
    if "num_examples" not in parcel.extras:
        raise _damaged("no 'num_examples'")
    sizes = parcel.extras["num_examples"]
    bank = KnowledgeBank(
        parcel.client_ids, logits, sizes, mask=encoded.mask, features=features, **extras
    )
    return bank, after


def seal_teachers(
    teachers: Teachers, codec: Codec, state: State, sent: Bool[Tensor, "k P"] | None = None
) -> tuple[Parcel, State]:
    """Return the teachers as the codec writes them, and the sender's next state.

    Samples that do not count are not sent. Weights travel only if one of them is neither 0 nor 1.

    Args:
        teachers: For k clients.
        codec: How targets are written.
        state: The sender's.
        sent: Which samples travel; None for those that count.
    """
    weight, extras = teachers.sample_weight, _extras(replace(teachers, sample_weight=None))
    if weight is not None and not bool(((weight == 0) | (weight == 1)).all()):
        extras["sample_weight"] = weight
    mask = sent if sent is not None or weight is None else weight > 0
    encoded, after = codec.encode(teachers.targets, teachers.space, state, mask)
    return _parcel(teachers, encoded, extras), after


def open_teachers(parcel: Parcel, codec: Codec, state: State) -> tuple[Teachers, State]:
    """Return what the clients read, and their next state."""
    features, encoded = features_of(parcel.encoded, parcel.width)
    targets, after = codec.decode(encoded, state)
    weight = parcel.extras.get("sample_weight")
    if weight is None and encoded.mask is not None and "signals" not in parcel.extras:
        weight = encoded.mask.float()
    beside = {name: parcel.extras.get(name) for name in ("prototypes", "present")}
    for name, value in {FEATURES: features, **beside}.items():
        if value is not None:
            check_values(name, value, LOGITS, parcel.client_ids)
    teachers = Teachers(
        parcel.client_ids, targets, encoded.space, weight, features=features, **beside
    )
    return teachers, after


def _parcel(sent: KnowledgeBank | Teachers, encoded: Encoded, extras: dict[str, Tensor]) -> Parcel:
    """Return what was encoded of ``sent``, with its features beside the predictions."""
    if (features := sent.features) is None:
        return Parcel(sent.client_ids, encoded, extras)
    return Parcel(sent.client_ids, with_features(encoded, features), extras, features.shape[2])


def _extras(bank: KnowledgeBank | Teachers) -> dict[str, Tensor]:
    """Return what goes with the predictions, mask and features aside."""
    known = (*EXTRA_FIELDS, *BIT_FIELDS)
    named = {f.name: getattr(bank, f.name) for f in fields(bank) if f.name in known}
    return {name: value for name, value in named.items() if value is not None}


def _bits(
    name: str, array: npt.NDArray[Any], sizes: Mapping[str, tuple[int, str]]
) -> Bool[Tensor, "K P"]:
    """Return what one bit a sample says of each client's samples, after a look at its header."""
    num_public = sizes["P"][0]
    octets = {**sizes, "P": (-(-num_public // 8), "one bit a sample")}
    check_header(name, array, ArrayField("K P", torch.uint8), octets)
    return unpack(torch.from_numpy(np.array(array)), 2, num_public).bool()


def _flat(name: str, array: object) -> Tensor:
    """Return an array of the code, whose types are the codec's to check."""
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "iuf":
        raise _damaged(f"'{name}', which is no flat array of numbers")
    return torch.from_numpy(np.array(array))


def _space(array: npt.NDArray[Any]) -> Space:
    try:
        return Space(array.tobytes().decode())
    except ValueError as error:
        raise _damaged("an unknown space") from error


def _wrong(count: Tensor, size: int) -> bool:
    """Return whether lengths [k] do not add up to ``size``; one at a time, as sums may overflow."""
    return bool(((count < 0) | (count > size)).any()) or int(count.sum()) != size


def _damaged(got: str) -> KnowledgeError:
    return KnowledgeError(
        "An encoded message is damaged",
        got=got,
        next_step="Run the same version and the same codec on every node.",
    )
