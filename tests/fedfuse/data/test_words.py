"""Texts as word numbers."""

import numpy as np
import pytest

from fedfuse.data.words import NUMBERS, check_words, number_words, split_words, word_number
from fedfuse.errors import DataError, ParameterError


def test_words_of_scripts_without_spaces_are_characters():
    assert split_words("Über 東京は") == ["über", "東", "京", "は"]


def test_a_word_has_one_number_everywhere_and_it_is_exact_in_float32():
    numbers = [word_number(f"w{i}") for i in range(2000)]
    assert min(numbers) >= 1
    assert max(numbers) <= NUMBERS
    assert np.float32(NUMBERS) == NUMBERS
    assert np.float32(NUMBERS - 1) == NUMBERS - 1
    assert len(set(numbers)) == 2000
    assert word_number("panic") == 11434261  # in every process, whatever its hash seed


def test_rows_are_cut_and_filled_with_zeros():
    a, b = word_number("a"), word_number("b")
    rows = number_words(["A b", "b a b a"], 3, "here")
    assert rows.dtype == np.int32
    assert rows.tolist() == [[a, b, 0], [b, a, b]]


def test_a_text_without_a_word_is_refused():
    with pytest.raises(DataError) as caught:
        number_words(["a", " \n", None], 3, "Column 'text' of x.csv")
    assert "2 of 3, the first in row 1" in str(caught.value)


@pytest.mark.parametrize("words", [0, 5000, 2.5])
def test_lengths_out_of_range_are_refused(words):
    with pytest.raises(ParameterError, match="words"):
        check_words("text", words)
