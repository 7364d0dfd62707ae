"""Tokenizers: there and back, what they refuse, and the state that a checkpoint carries."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import Tokenizer, build_tokenizer, encode_whole, tokenizer_from_state
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


# Whole characters, their beginnings, stray bytes and a real U+FFFD (ef bf bd), in any order.
PIECES = st.sampled_from([b"a", "é".encode(), "€".encode(), "\ufffd".encode(), b"\xf0\x9f\x98\x80"])
BYTES = st.lists(PIECES | st.binary(max_size=4)).map(b"".join)


@given(BYTES)
def test_streamed_pieces_are_the_whole(content: bytes) -> None:
    assert "".join(ByteTokenizer().decode_stream(content)) == content.decode("utf-8", "replace")
    assert content.decode("utf-8", "replace") == ByteTokenizer().decode([*content])


@given(st.text())
def test_a_character_comes_with_its_last_byte(text: str) -> None:
    assert [*ByteTokenizer().decode_stream(text.encode())] == [*text]
    arrived: list[int] = []
    stream = ByteTokenizer().decode_stream(i for i in text.encode() if not arrived.append(i))
    for number in range(1, len(text) + 1):
        assert next(stream) == text[number - 1]
        assert len(arrived) == len(text[:number].encode())


@pytest.mark.parametrize("text", ["\ufffd€", "€\ufffd\ufffdé", "\ufffd"])
def test_a_real_replacement_character_is_text(text: str) -> None:
    assert [*ByteTokenizer().decode_stream(text.encode())] == [*text]


def test_a_stray_byte_does_not_hold_up_what_follows() -> None:
    assert [*ByteTokenizer().decode_stream(b"\xe2\x82a\xff\xe2\x82\xac\xe2")] == [
        *("\ufffda", "\ufffd", "€", "\ufffd")
    ]


@given(st.text(min_size=1))
def test_characters_stream_one_by_one(text: str) -> None:
    tokenizer = CharTokenizer(text)
    assert [*tokenizer.decode_stream(tokenizer.encode(text).tolist())] == [*text]


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), CharTokenizer("ab")])
def test_streams_refuse_ids_outside_the_vocabulary(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"token id 256: must be 0 to"):
        list(tokenizer.decode_stream([0, 256]))


@settings(max_examples=30)
@given(st.lists(st.text("abé€", max_size=5)))
def test_blocks_are_encoded_as_the_whole(blocks: list[str]) -> None:
    for tokenizer in (ByteTokenizer(), CharTokenizer("abé€")):
        ids = encode_whole(tokenizer, blocks)
        assert ids.dtype == np.uint8
        assert ids.tolist() == tokenizer.encode("".join(blocks)).tolist()


def test_an_unknown_character_is_counted_through_all_blocks() -> None:
    with pytest.raises(ValueError, match=r"character 6 of the text, 'é'"):
        encode_whole(CharTokenizer("abc"), ["abc", "", "cabéé"])
