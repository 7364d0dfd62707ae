"""Exported tokenizers: AutoTokenizer gives the ids that ours gives, and the text back."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import ByteTokenizer, CharTokenizer, Tokenizer
from data.subwords import SubwordTokenizer
from hf.tokenizer_out import special_ids, tokenizer_files

CHARACTERS = "".join(map(chr, range(256))) + "Āé\u0301😀漢\u2028"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def auto(directory: Path, tokenizer: Tokenizer, model_type: str = "llama") -> Any:
    """What AutoTokenizer makes of the files beside a config.json of a model."""
    from transformers import AutoTokenizer

    for name, text in tokenizer_files(tokenizer, 99).items():
        (directory / name).write_text(text, encoding="utf-8")
    (directory / "config.json").write_text(json.dumps({"model_type": model_type}))
    return AutoTokenizer.from_pretrained(directory)


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return auto(tmp_path_factory.mktemp("bytes"), ByteTokenizer())


@pytest.fixture(scope="module")
def of_characters(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return auto(tmp_path_factory.mktemp("characters"), CharTokenizer(CHARACTERS))


@given(text=TEXTS)
@settings(deadline=None)
def test_any_text_in_bytes(of_bytes: Any, text: str) -> None:
    ids = of_bytes(text)["input_ids"]
    assert ids == list(text.encode())
    assert of_bytes.decode(ids) == text


@given(ids=st.lists(st.integers(0, 255)))
@settings(deadline=None)
def test_any_bytes_as_text(of_bytes: Any, ids: list[int]) -> None:
    """Those that are not UTF-8 too."""
    assert of_bytes.decode(ids) == ByteTokenizer().decode(ids)


@given(text=st.text(CHARACTERS))
@settings(deadline=None)
def test_any_text_of_its_characters(of_characters: Any, text: str) -> None:
    ids = of_characters(text)["input_ids"]
    assert ids == CharTokenizer(CHARACTERS).encode(text).tolist()
    assert of_characters.decode(ids) == text


def test_another_character_is_an_error(of_characters: Any) -> None:
    with pytest.raises(Exception, match="Missing"):
        of_characters("ö – not one of them".replace("ö", "ł"))


def test_the_separator_ends_begins_and_pads(of_bytes: Any, of_characters: Any) -> None:
    for tokenizer in (of_bytes, of_characters):
        assert tokenizer.eos_token_id == tokenizer.bos_token_id == tokenizer.pad_token_id == 0
        assert tokenizer.decode(tokenizer("a\0b")["input_ids"], skip_special_tokens=True) == "ab"
        assert tokenizer.model_max_length == 99
        padded = tokenizer(["a", "abc"], padding=True)
        assert padded["attention_mask"][0] == [1, 0, 0]


def test_a_vocabulary_without_the_separator(tmp_path: Path) -> None:
    tokenizer = CharTokenizer("abc")
    found = auto(tmp_path, tokenizer)
    assert found.eos_token is None and special_ids(tokenizer) == {}
    assert found("cab")["input_ids"] == [2, 0, 1]


@pytest.mark.parametrize("model_type", ["qwen3", "gpt2", "gemma2", "cohere", "smollm3", "arcee"])
def test_of_every_family(model_type: str, tmp_path: Path) -> None:
    """Some families have tokenizers of their own."""
    text = "def f(x):\n\treturn  Ā\0é"
    found = auto(tmp_path, ByteTokenizer(), model_type)
    assert found(text)["input_ids"] == list(text.encode())
    assert found.decode(list(text.encode())) == text


@pytest.fixture(scope="module")
def subwords() -> SubwordTokenizer:
    """Trained on a line, with a separator that is not its first token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    fast = Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=["<first>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    fast.train_from_iterator(["hello world, the hello of the world"] * 9, trainer)
    return SubwordTokenizer(fast.to_str(), "<|end|>")


def test_subwords_are_written_as_they_are(subwords: SubwordTokenizer, tmp_path: Path) -> None:
    found, text = auto(tmp_path, subwords), "hello the wörld\n 😀"
    ids = found(text)["input_ids"]
    assert ids == subwords.encode(text).tolist() and len(ids) < len(text.encode())
    assert found.decode(ids) == text
    assert found.eos_token_id == found.bos_token_id == found.pad_token_id == 1
    assert found.eos_token == "<|end|>"


@pytest.mark.parametrize("text", ["hello wörld Ā\n", "\r\n\t é"])
def test_what_is_written_is_read_here(text: str, tmp_path: Path) -> None:
    """As of a model from elsewhere: the same ids, and bytes per token but the separator's."""
    for name, own in (("a", ByteTokenizer()), ("b", CharTokenizer(CHARACTERS))):
        (tmp_path / name).mkdir()
        auto(tmp_path / name, own)
        read = SubwordTokenizer.from_file(tmp_path / name)
        assert (read.separator, read.vocab_size) == (0, own.vocab_size)
        assert read.encode(text).tolist() == own.encode(text).tolist()
        assert read.token_bytes[1:].tolist() == own.token_bytes[1:].tolist()
