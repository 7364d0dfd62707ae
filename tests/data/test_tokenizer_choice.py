"""What `data.tokenizer` and `data.vocab_size` may be."""

from pathlib import Path

import pytest

from data.tokenizer_choice import expected_size, tokenizer_problems

NAMES = "one of byte, char, bpe, or the path of a tokenizer.json or of a folder with one"


@pytest.mark.parametrize("name", ["byte", "char", "bpe", "my/tokenizer.json", "none.json", "a/b"])
def test_names_and_what_reads_like_a_path(name: str) -> None:
    assert tokenizer_problems({"tokenizer": name}) == []


def test_a_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tokenizer_problems({"tokenizer": "llama"}) != []
    (tmp_path / "llama").mkdir()
    assert tokenizer_problems({"tokenizer": "llama"}) == []


@pytest.mark.parametrize("name, works", [("words", "byte"), ("bep", "bpe"), (None, "byte")])
def test_what_is_no_tokenizer(name: object, works: str) -> None:
    (line,) = tokenizer_problems({"tokenizer": name, "vocab_size": 500})
    shown = "null" if name is None else name
    assert line == f"data.tokenizer={shown}: must be {NAMES}; try data.tokenizer={works}"


@pytest.mark.parametrize("size", [256, 0, -1, 1.5, True, "big", 1_000_001])
def test_sizes_that_are_none(size: object) -> None:
    (line,) = tokenizer_problems({"tokenizer": "bpe", "vocab_size": size})
    assert f"data.vocab_size={size}: must be null or an integer from 257 to 1000000" in line
    assert expected_size({"tokenizer": "bpe", "vocab_size": size}) == 256


def test_a_size_for_one_that_has_its_own() -> None:
    (line,) = tokenizer_problems({"tokenizer": "char", "vocab_size": 500})
    assert line.startswith("data.vocab_size=500: data.tokenizer=char has a size of its own")
    assert tokenizer_problems({"tokenizer": "bpe", "vocab_size": 257}) == []


def test_what_is_known_of_a_size_before_the_text() -> None:
    assert expected_size({"tokenizer": "bpe", "vocab_size": None}) == 4096
    assert expected_size({"tokenizer": "bpe", "vocab_size": 900}) == 900
    assert expected_size({"tokenizer": "byte"}) == 256
