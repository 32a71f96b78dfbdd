"""Whatever a payload declares is joined, divided, counted and checked by its declaration."""

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import pytest
import torch
from torch import Tensor

from fedfuse.errors import ConfigError, KnowledgeError
from fedfuse.exchange.kind import Kind
from fedfuse.payload import (
    COUNTS,
    NOT_NEGATIVE,
    SIMPLEX,
    ArrayField,
    Bounds,
    Payload,
    TextField,
    for_all,
    is_for_all,
)
from fedfuse.payload.fields import schema
from fedfuse.types import Space
from fedfuse.wire.encode import decode, encode, once, spread, without
from server.transport.replies import odd_ones_out

IDS, P, C, W = (1, 4, 6), 5, 3, 2


@dataclass(frozen=True, slots=True)
class Mixed(Payload):
    """Every kind of field."""

    pairs: Annotated[Tensor, ArrayField("K W 2", torch.float64, Bounds(-1, 1))]
    share: Annotated[Tensor, ArrayField("K C", bounds=SIMPLEX)]
    sizes: Annotated[Tensor, ArrayField("K", torch.int64, NOT_NEGATIVE)]
    tokens: Annotated[Tensor, ArrayField("N", torch.int32, Bounds(0, 99), lengths="sizes")]
    space: Annotated[Space, TextField()]
    words: Annotated[tuple[str, ...], TextField(dim="W")]
    num_examples: Annotated[Tensor, ArrayField("K", torch.int64, COUNTS, own=True)]
    few: Annotated[Tensor, ArrayField("K", torch.int32, COUNTS)]
    odd: Annotated[Tensor, ArrayField("K", bounds=Bounds(-2, 5, may_be_nan=True))]
    kept: Annotated[Tensor | None, ArrayField("K P", torch.bool)] = None


KIND = Kind(Mixed, Mixed, {"W": W, "N": (9, 2, 9, 9, 0, 9, 3)})
EXPECT = KIND.expect(IDS, P, C)


def mixed():
    return Mixed(
        client_ids=torch.tensor(IDS),
        pairs=torch.tensor([[[0.5, -1]] * W] * 3, dtype=torch.float64),
        share=torch.full((3, C), 1 / C),
        sizes=torch.tensor([2, 0, 3]),
        tokens=torch.tensor([7, 8, 1, 2, 3], dtype=torch.int32),
        space=Space.LOGITS,
        words=("left", "right"),
        num_examples=torch.tensor([5, 6, 7]),
        few=torch.arange(3, dtype=torch.int32),
        odd=torch.tensor([-2, torch.nan, 5]),
        kept=torch.tensor([[True] * P] * 3),
    )


def same(one, two):
    for name in schema(Mixed):
        a, b = getattr(one, name), getattr(two, name)
        alike = isinstance(a, Tensor) and torch.equal(a.nan_to_num(9), b.nan_to_num(9))
        assert alike or (not isinstance(a, Tensor) and a == b), name


def test_it_travels_and_is_divided_and_joined_again_in_any_order():
    whole = decode(Mixed, encode(mixed()), EXPECT)
    same(whole, mixed())
    parts = [whole.rows(torch.tensor([2])), whole.rows(slice(0, 2))]
    assert parts[0].tokens.tolist() == [1, 2, 3]
    assert parts[1].tokens.tolist() == [7, 8]
    assert [v.tolist() for v in whole.split("tokens")] == [[7, 8], [], [1, 2, 3]]
    same(Mixed.stack(parts), whole)
    swapped = whole.rows(torch.tensor([2, 0, 1]))
    assert swapped.tokens.tolist() == [1, 2, 3, 7, 8]
    assert replace(whole, kept=None).rows(torch.tensor([0])).kept is None


def test_what_addresses_and_names_does_not_count_as_bytes():
    arrays = encode(mixed())
    framing = ("client_ids", "sizes", "space", "words")
    counted = [array.nbytes for name, array in arrays.items() if name not in framing]
    assert Mixed.exchanged_bytes(arrays) == sum(counted)
    # Sent to several at once, what is the client's own is left out.
    a, b, _ = mixed().messages()
    assert len(a) - len(b) == 2 * 4  # two tokens
    assert len(b) == W * 2 * 8 + C * 4 + 4 + 4 + P


def test_what_is_one_row_for_all_is_carried_once_and_counted_for_each():
    own = mixed()
    alike = {name: for_all(getattr(own, name)[1], 3) for name in ("pairs", "share", "few", "odd")}
    sent = replace(own, **alike)
    for part in (sent.rows(torch.tensor([2, 0])), sent.rows(slice(0, 2)), sent.to("cpu")):
        assert all(is_for_all(getattr(part, name)) for name in alike)
    swapped = sent.rows(torch.tensor([2, 0, 1]))
    copied = replace(sent, **{name: value.clone() for name, value in alike.items()})
    same(swapped, copied.rows(torch.tensor([2, 0, 1])))
    arrays = encode(sent)
    assert Mixed.exchanged_bytes(arrays) == Mixed.exchanged_bytes(encode(copied))
    assert list(sent.messages()) == list(copied.messages())
    short = once(arrays)
    assert {name for name, array in short.items() if len(array) == 1} == {*alike}
    arrived = decode(Mixed, spread(Mixed, short), EXPECT)
    same(arrived, copied)
    assert all(is_for_all(getattr(arrived, name)) for name in alike)
    assert not any(is_for_all(getattr(sent.rows(slice(1)), name)) for name in alike)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("pairs", np.full((1, W, 2), 1.5), "client 1 .* too large"),
        ("share", np.ones((1, C), np.float32), "client 1 .* another sum"),
        ("few", np.zeros((2,), np.int32), "wrong number of clients: got 2"),
        ("few", np.zeros((1, 1), np.int32), "wrong type or rank"),
        ("sizes", np.array([5]), "wrong number of clients: got 1|other lengths"),
        ("tokens", np.array([7], np.int32), "other lengths"),
        ("client_ids", np.array([1]), "wrong number of clients"),
    ],
)
def test_one_row_for_all_is_checked_as_every_row(name, array, words):
    arrays = {**encode(mixed()), name: array}
    with pytest.raises(KnowledgeError, match=words):
        decode(Mixed, spread(Mixed, arrays), EXPECT)


def test_single_clients_are_left_out_of_what_has_not_been_believed_yet():
    left = without(Mixed, encode(mixed()), [1])
    got = decode(Mixed, left, KIND.expect(IDS[1:], P, C))
    same(got, mixed().rows(slice(1, 3)))
    broken = {**encode(mixed()), "sizes": np.array([2, 0, 2**62])}
    with pytest.raises(KnowledgeError, match="without the clients that were refused"):
        without(Mixed, broken, [1])


WRONG = {
    "pairs": [
        (np.full((3, W, 2), 1.5), "client 1 .* too large, allowed: numbers up to 1"),
        (np.zeros((3, W, 3)), "number of elements along 2: got 3, allowed: 2, as its declaration"),
        (np.zeros((3, 1, 2)), "elements along W: got 1, allowed: 2, as what was asked for"),
    ],
    "odd": [
        (np.full(3, -3, np.float32), "client 1 .* too small, allowed: numbers from -2 upwards"),
        (np.full(3, np.inf, np.float32), "not finite, allowed: numbers, or NaN"),
        (np.full(3, 6, np.float32), "numbers up to 5"),
    ],
    "share": [(np.ones((3, C), np.float32), "client 1 .* another sum")],
    "sizes": [
        (np.array([3, 0, 2]), "other lengths than were asked for"),
        (np.array([2, -1, 4]), "negative"),
    ],
    "tokens": [
        (np.array([0, 0, 0, 100, 0], np.int32), "'tokens' of client 6 .* 1 of 3 too large"),
        (np.arange(4, dtype=np.int32), "other lengths than were asked for"),
        (np.zeros((5, 1), np.int32), "wrong type or rank"),
    ],
    "few": [(np.array([0, -1, 0], np.int32), "client 4 .* 1 of 1 negative")],
    "words": [(np.frombuffer(b"left", np.uint8), "elements along W: got 1, allowed: 2")],
    "num_examples": [(np.full(3, 2**41), "at most 1099511627776 samples")],
}


@pytest.mark.parametrize(
    ("name", "array", "says"), [(name, *case) for name, cases in WRONG.items() for case in cases]
)
def test_what_was_not_promised_is_refused(name, array, says):
    with pytest.raises(KnowledgeError, match=says):
        decode(Mixed, {**encode(mixed()), name: array}, EXPECT)


def test_all_clients_with_wrong_numbers_in_a_flat_field_are_named():
    arrays = {**encode(mixed()), "tokens": np.array([-1, 0, 0, 0, 100], np.int32)}
    with pytest.raises(KnowledgeError) as caught:
        decode(Mixed, arrays, EXPECT)
    assert caught.value.client_ids == (1, 6)


def test_clients_that_say_another_word_than_most_are_set_aside():
    ids = torch.tensor([0, 2])
    usual = replace(mixed().rows(slice(0, 2)), client_ids=ids)
    other = replace(mixed().rows(slice(2, 3)), space=Space.PROBABILITIES)
    kept, odd = odd_ones_out([other, usual])
    assert [upload.client_ids.tolist() for upload in kept] == [[0, 2]]
    assert [upload.client_ids.tolist() for upload, _ in odd] == [[6]]
    assert "space=probabilities" in odd[0][1]


def declares(annotation):
    cls = type("Odd", (Payload,), {"__annotations__": {"field": annotation}})
    return dataclass(frozen=True)(cls)


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        (Tensor, "The field 'field' of payload Odd does not declare what it holds"),
        (Annotated[Tensor, "K C"], "does not declare what it holds"),
        (Annotated[int, ArrayField("K")], "is no tensor: got .*int"),
        (Annotated[Tensor, ArrayField("K", torch.bfloat16)], "does not travel: got torch.bfloat16"),
        (Annotated[Tensor, ArrayField("C K")], 'row per client: got "C K"'),
        (Annotated[Tensor, ArrayField("")], "row per client"),
        (Annotated[Tensor, ArrayField("N M", lengths="sizes")], "has lengths and is not flat"),
        (Annotated[Tensor, ArrayField("N", lengths="sizes")], "has no field 'sizes' of lengths"),
        (Annotated[str, TextField()], "is no text"),
        ("Tensr", "fields of payload Odd cannot be read: got name 'Tensr' is not defined"),
        (Annotated[Space | None, TextField()], "is no text"),
    ],
)
def test_a_declaration_that_cannot_be_kept_is_a_mistake(annotation, says):
    with pytest.raises(ConfigError, match=says):
        schema(declares(annotation))


@pytest.mark.parametrize("sizes", [{}, {"W": W}, {"W": W, "N": 4}, {"W": (1, 2), "N": (1,) * 7}])
def test_a_kind_says_every_size(sizes):
    with pytest.raises(ConfigError, match="Nobody says how large"):
        Kind(Mixed, Mixed, sizes)


def test_a_dimension_of_the_metrics_beside_it_is_no_ones_own():
    cls = declares(Annotated[Tensor, ArrayField("K G")])
    with pytest.raises(ConfigError, match=r"dimension G .* has the name of another"):
        Kind(cls, cls, {"G": 8})
