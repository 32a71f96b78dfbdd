"""What is exchanged survives the way, and what is broken is refused with the field and client."""

import contextlib
import warnings
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.errors import KnowledgeError
from fedfuse.types import ClientMetrics, KnowledgeBank, Space, Teachers
from fedfuse.wire.encode import Expectation, decode, encode

K, P, C = 3, 4, 5
IDS = (2, 5, 9)
EXPECT = Expectation(IDS, P, C)


def bank(seed=0, k=K, p=P, c=C, *, optional=True):
    g = torch.Generator().manual_seed(seed)
    return KnowledgeBank(
        client_ids=torch.randperm(50, generator=g)[:k].sort().values if seed else torch.tensor(IDS),
        logits=100 * torch.randn(k, p, c, generator=g),
        num_examples=torch.randint(1, 1000, (k,), generator=g),
        class_distribution=torch.randn(k, c, generator=g).softmax(1) if optional else None,
        mask=torch.rand(k, p, generator=g) > 0.5 if optional else None,
        confidence=torch.rand(k, p, generator=g) if optional else None,
    )


def teachers(space=Space.PROBABILITIES, *, seed=0, weighted=True):
    logits = bank(seed).logits
    return Teachers(
        client_ids=bank(seed).client_ids,
        targets=logits.softmax(2) if space is Space.PROBABILITIES else logits,
        space=space,
        sample_weight=torch.rand(K, P) if weighted else None,
    )


def metrics(names=("accuracy_own", "loss_own")):
    return ClientMetrics(torch.tensor(IDS), names, torch.randn(K, len(names)).double())


def same(a, b):
    assert type(a) is type(b)
    for field in fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, torch.Tensor):
            assert left.dtype == right.dtype, field.name
            assert torch.equal(left, right), field.name
        else:
            assert left == right, field.name
            assert type(left) is type(right), field.name


@settings(max_examples=30)
@given(
    st.integers(1, 10**6), st.integers(1, 6), st.integers(1, 7), st.integers(1, 5), st.booleans()
)
def test_knowledge_survives(seed, k, p, c, optional):
    sent = bank(seed, k, p, c, optional=optional)
    expect = Expectation(tuple(sent.client_ids.tolist()), p, c)
    same(decode(KnowledgeBank, encode(sent), expect), sent)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from(Space), st.booleans())
def test_teachers_survive(seed, space, weighted):
    sent = teachers(space, seed=seed, weighted=weighted)
    same(decode(Teachers, encode(sent)), sent)


words = st.text(min_size=1, max_size=8).filter(str.isprintable)


@settings(max_examples=40)
@given(st.lists(words, max_size=5, unique=True))
def test_metrics_survive_under_any_printable_names(names):
    sent = metrics(tuple(names))
    same(decode(ClientMetrics, encode(sent), EXPECT), sent)


def test_nothing_is_copied_that_need_not_be():
    sent = bank()
    arrays = encode(sent)
    got = decode(KnowledgeBank, arrays)
    for name in arrays:
        assert getattr(got, name).data_ptr() == getattr(sent, name).data_ptr()


def test_read_only_and_backward_memory_is_copied_without_a_warning():
    sent = bank()
    arrays = encode(sent)
    locked = {name: array.copy() for name, array in arrays.items()}
    for array in locked.values():
        array.flags.writeable = False
    locked["logits"] = np.ascontiguousarray(arrays["logits"][::-1])[::-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = decode(KnowledgeBank, locked)
    same(got, sent)
    got.num_examples.zero_()  # must not write into memory that belongs to others
    assert (locked["num_examples"] > 0).all()


def test_gradients_and_strides_stay_behind():
    logits = torch.randn(C, P, K, requires_grad=True).permute(2, 1, 0)
    sent = replace(bank(), logits=logits)
    got = decode(KnowledgeBank, encode(sent))
    assert not got.logits.requires_grad
    assert got.logits.is_contiguous()
    assert torch.equal(got.logits, logits)


def test_a_wrong_tensor_is_not_sent():
    with pytest.raises(KnowledgeError, match=r"'logits'.*float64.*float32"):
        encode(replace(bank(), logits=bank().logits.double()))
    with pytest.raises(KnowledgeError, match=r"'logits'.*bfloat16"):
        encode(replace(bank(), logits=bank().logits.bfloat16()))


@pytest.mark.parametrize("names", [("a", "a"), ("a\nb",), ("",), ("\ud800",)])
def test_names_that_could_not_be_read_back_are_not_sent(names):
    with pytest.raises(KnowledgeError, match="'names' cannot travel"):
        encode(metrics(names))


PAYLOADS = {KnowledgeBank: bank(), Teachers: teachers(), ClientMetrics: metrics()}
OPTIONAL = {"class_distribution", "mask", "confidence", "sample_weight"}
CASES = [(cls, name) for cls, value in PAYLOADS.items() for name in encode(value)]
FLOATS = [(cls, name) for cls, name in CASES if encode(PAYLOADS[cls])[name].dtype.kind == "f"]


def broken(cls, name, change):
    arrays = encode(PAYLOADS[cls])
    arrays[name] = change(arrays[name].copy())
    return arrays


MUTATIONS = {
    "float16": lambda a: a.astype(np.float16),
    "objects": lambda a: a.astype(object),
    "bytes": lambda a: a.astype("S4"),
    "scalar": lambda a: a.reshape(-1)[0:1].reshape(()),
    "one dimension more": lambda a: a[..., None],
    "one dimension less": lambda a: a[0],
    "empty": lambda a: a[:0],
    "a list": lambda a: a.tolist(),
    "None": lambda a: None,
}


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize(("cls", "name"), CASES)
def test_every_field_refuses_every_other_form(cls, name, mutation):
    arrays = broken(cls, name, MUTATIONS[mutation])
    with pytest.raises(KnowledgeError, match=f"'{name}'"):
        decode(cls, arrays, EXPECT)
    with pytest.raises(KnowledgeError):
        decode(cls, arrays)


@pytest.mark.parametrize(("cls", "name"), CASES)
def test_missing_fields(cls, name):
    arrays = encode(PAYLOADS[cls])
    del arrays[name]
    if name in OPTIONAL:
        assert getattr(decode(cls, arrays, EXPECT), name) is None
    else:
        with pytest.raises(KnowledgeError, match=f"{cls.__name__}.*no '{name}'"):
            decode(cls, arrays, EXPECT)


@pytest.mark.parametrize("extra", ["weights", "", 3, ("a", 1)])
@pytest.mark.parametrize("cls", PAYLOADS)
def test_unknown_fields(cls, extra):
    arrays = {**encode(PAYLOADS[cls]), extra: np.zeros(3)}
    with pytest.raises(KnowledgeError, match="unknown"):
        decode(cls, arrays)


AXES = [
    (cls, name, axis)
    for cls, name in CASES
    if name not in ("space", "names")
    for axis in range(encode(PAYLOADS[cls])[name].ndim)
]


@pytest.mark.parametrize(("cls", "name", "axis"), AXES)
def test_lengths_that_disagree(cls, name, axis):
    arrays = broken(cls, name, lambda a: np.delete(a, 0, axis=axis))
    with pytest.raises(KnowledgeError, match=r"wrong number of (clients|public|classes|metrics)"):
        decode(cls, arrays, EXPECT)


odd_arrays = st.one_of(
    st.none(),
    st.just(np.ma.masked_all(K)),
    st.builds(
        lambda dtype, shape, fill: np.full(shape, fill).astype(dtype),
        st.sampled_from(["i8", "f4", "f8", "u1", "?", "O", "S3", ">f4", "c8"]),
        st.lists(st.integers(0, 5), max_size=4),
        st.sampled_from([0, 1, 255]),
    ),
)


@settings(max_examples=100)
@given(st.data(), st.sampled_from(list(PAYLOADS)))
def test_whatever_arrives_is_read_or_refused(data, cls):
    arrays = encode(PAYLOADS[cls])
    for name in data.draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, unique=True)):
        arrays[name] = data.draw(odd_arrays)
    # Any other exception fails the test; so does a payload that is read and is not what was asked.
    with contextlib.suppress(KnowledgeError):
        got = decode(cls, arrays, EXPECT)
        assert got.client_ids.tolist() == list(IDS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("cls", "name"), FLOATS)
def test_numbers_that_are_none(cls, name, value):
    if cls is ClientMetrics and np.isnan(value):
        pytest.skip("a metric that a client has no data for is NaN")

    def poison(array):
        array[1].reshape(-1)[:2] = value
        return array

    per_client = encode(PAYLOADS[cls])[name][1].size
    with pytest.raises(
        KnowledgeError, match=f"'{name}' of client 5 .*got 2 of {per_client} not finite"
    ):
        decode(cls, broken(cls, name, poison), EXPECT)


@pytest.mark.parametrize(
    "ids", [[2, 9, 5], [2, 5, 5], [9, 5, 2], [-1, 5, 9], [2, 5, np.iinfo(np.int64).min]]
)
@pytest.mark.parametrize("cls", PAYLOADS)
def test_ids_ascend_from_zero(cls, ids):
    arrays = broken(cls, "client_ids", lambda a: np.array(ids, dtype=np.int64))
    with pytest.raises(KnowledgeError, match="do not ascend"):
        decode(cls, arrays)


def test_a_mismatch_with_what_was_asked_names_both():
    arrays = encode(bank())
    with pytest.raises(KnowledgeError, match=r"\[2, 5, 9\].*\[2, 5, 8\]"):
        decode(KnowledgeBank, arrays, Expectation((2, 5, 8), P, C))
    with pytest.raises(KnowledgeError, match=r"\[2, 5, 9\].*\[2, 5\]"):
        decode(KnowledgeBank, arrays, Expectation((2, 5), P, C))
    with pytest.raises(KnowledgeError, match="public samples: got 4, allowed: 7, as what was"):
        decode(KnowledgeBank, arrays, Expectation(IDS, 7, C))
    with pytest.raises(KnowledgeError, match="classes: got 5, allowed: 10, as what was"):
        decode(KnowledgeBank, arrays, Expectation(IDS, P, 10))


@pytest.mark.parametrize(
    ("cls", "name"),
    [(KnowledgeBank, "num_examples"), (Teachers, "sample_weight"), (Teachers, "targets")],
)
def test_negative_numbers(cls, name):
    def negate(array):
        array[2] = -1
        return array

    with pytest.raises(KnowledgeError, match=f"'{name}' of client 9.*negative"):
        decode(cls, broken(cls, name, negate))


@pytest.mark.parametrize(
    ("cls", "name"), [(KnowledgeBank, "class_distribution"), (Teachers, "targets")]
)
def test_rows_off_the_simplex(cls, name):
    def scale(factor):
        def change(array):
            array[0] *= factor
            return array

        return change

    with pytest.raises(KnowledgeError, match=f"'{name}' of client 2.*sum"):
        decode(cls, broken(cls, name, scale(1.01)))
    decode(cls, broken(cls, name, scale(1.0005)))  # what a float16 codec may do


def test_targets_need_not_be_probabilities_if_they_are_logits():
    arrays = encode(teachers())
    arrays["targets"] = arrays["targets"] * -7
    arrays["space"] = np.frombuffer(b"logits", dtype=np.uint8)
    assert decode(Teachers, arrays).space is Space.LOGITS


@pytest.mark.parametrize("text", [b"", b"logit", b"\xff\xfe", b"LOGITS", b"logits\n"])
def test_unknown_space(text):
    arrays = {**encode(teachers()), "space": np.frombuffer(text, dtype=np.uint8)}
    with pytest.raises(KnowledgeError, match=r"'space' cannot be read.*logits, probabilities"):
        decode(Teachers, arrays)


@pytest.mark.parametrize("text", [b"a\na", b"a\n", b"\nb", b"\xff\xfe", b"a\x00\nb"])
def test_unreadable_names(text):
    arrays = {**encode(metrics()), "names": np.frombuffer(text, dtype=np.uint8)}
    with pytest.raises(KnowledgeError, match="'names' cannot be read"):
        decode(ClientMetrics, arrays)


def test_answers_of_nodes_are_joined_and_kept_only_if_all_sent_them():
    def part(client_id, bits):
        values = torch.zeros(1, 1).double()
        bits = None if bits is None else torch.tensor([bits], dtype=torch.uint8)
        return ClientMetrics(torch.tensor([client_id]), ("loss",), values, bits, bits)

    joined = ClientMetrics.stack([part(4, [1, 2]), part(3, [255])])
    assert joined.right_own.tolist() == [[255, 0], [1, 2]]
    sent = encode(joined)
    assert decode(ClientMetrics, sent).right_global.tolist() == [[255, 0], [1, 2]]
    assert ClientMetrics.stack([part(4, [1]), part(3, None)]).right_own is None
    sent["right_own"] = np.zeros((2, 2**20 + 1), dtype=np.uint8)
    with pytest.raises(KnowledgeError, match="'right_own' is too long"):
        decode(ClientMetrics, sent)
