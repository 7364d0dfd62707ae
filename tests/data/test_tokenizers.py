"""Tokenizers: there and back, what they refuse, and the state that a checkpoint carries."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import build_tokenizer, tokenizer_from_state
from data.tokenizers import MAX_CHARACTERS, ByteTokenizer, CharTokenizer


@given(st.text())
def test_bytes_round_trip(text: str) -> None:
    ids = ByteTokenizer().encode(text)
    assert ids.dtype == np.uint8
    assert ids.tolist() == list(text.encode())
    assert ByteTokenizer().decode(ids) == text


@given(st.text(min_size=1))
def test_characters_round_trip(text: str) -> None:
    tokenizer = CharTokenizer(text)
    ids = tokenizer.encode(text)
    vocabulary = sorted(set(text))
    assert tokenizer.vocab_size == len(vocabulary)
    assert ids.tolist() == [vocabulary.index(character) for character in text]
    assert tokenizer.decode(ids) == text


@given(st.text(min_size=1))
def test_token_bytes_are_those_of_the_text(text: str) -> None:
    for tokenizer in (ByteTokenizer(), CharTokenizer(text)):
        assert tokenizer.token_bytes.shape == (tokenizer.vocab_size,)
        assert tokenizer.token_bytes[tokenizer.encode(text)].sum() == len(text.encode())


@pytest.mark.parametrize("name", ["byte", "char"])
def test_state_survives_json(name: str) -> None:
    texts = ["naïve ☃", "\0", "quote \" and \U0001f600 'twice'"]
    tokenizer = build_tokenizer(name, texts)
    again = tokenizer_from_state(json.loads(json.dumps(tokenizer.state())))
    for text in texts:
        assert again.encode(text).tolist() == tokenizer.encode(text).tolist()
        assert again.decode(again.encode(text)) == text


def test_vocabulary_is_that_of_all_texts() -> None:
    assert build_tokenizer("char", ["cab", "bad"]).state()["characters"] == "abcd"


def test_more_than_256_characters_take_two_bytes() -> None:
    text = "".join(map(chr, range(300)))
    ids = CharTokenizer(text).encode(text)
    assert ids.dtype == np.uint16
    assert ids.tolist() == list(range(300))


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert ByteTokenizer().decode([0x61, 0xFF, 0x62]) == "a\ufffdb"


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), CharTokenizer("ab")])
@pytest.mark.parametrize("wrong", [-1, 256])
def test_ids_outside_the_vocabulary(tokenizer: CharTokenizer, wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"token id {wrong}: must be 0 to"):
        tokenizer.decode([0, wrong])


def test_unknown_character_is_named() -> None:
    with pytest.raises(ValueError, match=r"character 2 of the text, 'é'.*'abc'"):
        CharTokenizer("abc").encode("abé")


def test_lone_surrogate_is_named() -> None:
    with pytest.raises(ValueError, match=r"character 1 of the text is '\\ud800'"):
        ByteTokenizer().encode("a\ud800")


@pytest.mark.parametrize("size", [0, MAX_CHARACTERS + 1])
def test_vocabularies_that_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"data\.tokenizer=char.* {size:,} different characters"):
        CharTokenizer(map(chr, range(size)))


def test_largest_vocabulary_is_taken() -> None:
    text = "".join(map(chr, range(MAX_CHARACTERS)))
    assert CharTokenizer(text).encode(text)[-1] == MAX_CHARACTERS - 1


def test_unknown_tokenizer() -> None:
    with pytest.raises(
        ValueError,
        match=r"data\.tokenizer=bite: must be one of byte, char; try data\.tokenizer=byte",
    ):
        build_tokenizer("bite", ["a"])
    with pytest.raises(ValueError, match=r"data\.tokenizer=null"):
        tokenizer_from_state({})
