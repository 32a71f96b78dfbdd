"""Models of texts: what they compute, and that torch trains many clients at once."""

import pytest
import torch
from torch import nn

from fedfuse.errors import ModelError, ParameterError
from fedfuse.models.ngrams import ngram_buckets, ngrams
from fedfuse.models.text_transformer import text_transformer
from fedfuse.train.obstacles import obstacle

SHAPE = (6,)


def texts(rows: int = 5, words: int = 6) -> torch.Tensor:
    drawn = torch.randint(1, 2**24, (rows, words), generator=torch.Generator().manual_seed(0))
    lengths = torch.arange(rows).unsqueeze(1) % words + 1
    return torch.where(torch.arange(words) < lengths, drawn, 0).float()


def test_ngrams_are_an_embedding_bag():
    model = ngrams(SHAPE, 3, order=2, buckets=50, width=4)
    inputs = texts()
    bag = nn.EmbeddingBag.from_pretrained(model.embedding.weight, mode="mean")
    for row in range(5):
        bags, counts = ngram_buckets(inputs[row : row + 1].long(), 2, 50)
        mean = bag(bags[counts > 0].unsqueeze(0))
        expected = model.head(model.norm(mean))
        torch.testing.assert_close(model(inputs[row : row + 1]), expected)


def test_an_ngram_is_a_hash_of_its_words_in_order():
    (bags,), (counts,) = ngram_buckets(torch.tensor([[3, 4, 0]]), 3, 10**9)
    assert bags.tolist()[3] == 3 * 1_000_003 + 4
    assert counts.tolist() == [1, 1, 0, 1, 0, 0]
    swapped, _ = ngram_buckets(torch.tensor([[4, 3, 0]]), 2, 10**9)
    assert swapped[0, 3] != bags[3]


@pytest.mark.parametrize("make", [ngrams, text_transformer])
def test_words_that_are_none_change_nothing(make):
    short, long = make((6,), 3), make((9,), 3)
    state = short.state_dict()
    if "places" in state:
        state["places"] = nn.functional.pad(state["places"], (0, 0, 0, 3))
    long.load_state_dict(state)
    inputs = texts()
    torch.testing.assert_close(short(inputs), long(nn.functional.pad(inputs, (0, 3))))
    assert torch.isfinite(short(torch.zeros(2, 6))).all()


@pytest.mark.parametrize("make", [ngrams, text_transformer])
def test_many_clients_can_be_trained_at_once(make):
    model = make(SHAPE, 3)
    optimizer = torch.optim.Adam(model.parameters())
    assert obstacle(model, optimizer, texts()) is None


def test_the_order_of_words_counts_for_the_transformer():
    torch.manual_seed(0)
    model = text_transformer(SHAPE, 3)
    nn.init.normal_(model.places)
    inputs = texts()[5 - 1 :]
    assert not torch.allclose(model(inputs), model(inputs.flip(1)), atol=1e-4)


def test_what_is_no_text_and_no_size_is_refused():
    for make in (ngrams, text_transformer):
        with pytest.raises(ModelError, match="needs text"):
            make((1, 28, 28), 3)
        with pytest.raises(ParameterError, match="buckets"):
            make(SHAPE, 3, buckets=0)
    with pytest.raises(ModelError, match="do not divide") as caught:
        text_transformer(SHAPE, 3, width=30)
    assert "model.width=28" in str(caught.value)
