"""The tokenizer of a folder."""

import json
from pathlib import Path

import pytest
import tokenizers

from data import SubwordTokenizer
from folders import write_folder
from hf.description import read

TEXT = "words of a text, and more words"


def write_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """A tokenizer.json with a special token, and the settings that name it."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(special_tokens=["<start>", "<end>"], vocab_size=36)
    made.train_from_iterator([TEXT], trainer)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))
    return made


def test_it_encodes_without_special_tokens_and_separates_by_the_end(tmp_path: Path) -> None:
    write_folder(tmp_path)
    theirs = write_tokenizer(tmp_path)
    ours = SubwordTokenizer.from_file(tmp_path, "checkpoint=x")
    assert ours.encode(TEXT).tolist() == theirs.encode(TEXT, add_special_tokens=False).ids
    assert ours.decode(ours.encode(TEXT)) == TEXT
    assert ours.separator == theirs.token_to_id("<end>")
    assert ours.vocab_size <= read(tmp_path).config.vocab_size


def test_a_folder_without_one_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    with pytest.raises(ValueError, match=r"^checkpoint=.*tokenizer.json"):
        SubwordTokenizer.from_file(tmp_path, "checkpoint=x")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"^here: "):
        SubwordTokenizer.from_file(tmp_path, "here")
