"""Nothing that a stranger calls something acts or hides where it is shown."""

from __future__ import annotations

import unicodedata

import pytest

from fedfuse.safe_text import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("knfu (α 0.5) · größer, 数据 👩‍🔬", "knfu (α 0.5) · größer, 数据 👩‍🔬"),
        ("\x1b]8;;http://h\x07link", r"\x1b]8;;http://h\x07link"),
        ("\u202egnp.exe\u2066\u200e", r"\u202egnp.exe\u2066\u200e"),
        ("a\r\nb\tc\x00\x7f\x9b", r"a\r\nb\tc\x00\x7f\x9b"),
        ("\udc80\u2028\ufeff\uffff\xad", r"\udc80\u2028\ufeff\uffff\xad"),
    ],
)
def test_what_acts_or_hides_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_every_character_can_be_encoded_and_none_is_a_control() -> None:
    everything = "".join(map(chr, range(0x110000)))
    shown = visible(everything, None)
    assert shown.encode()
    kinds = {letter: unicodedata.category(letter) for letter in shown}
    assert not {"Cc", "Cs", "Zl", "Zp"} & set(kinds.values())
    assert {letter for letter, kind in kinds.items() if kind == "Cf"} == set("\u200c\u200d")


def test_a_name_of_a_megabyte_is_cut_and_says_so() -> None:
    assert visible("x" * 2**20) == "x" * 300 + "… (1048576 characters)"
    assert visible("a\nb", lines=True) == "a\nb"
