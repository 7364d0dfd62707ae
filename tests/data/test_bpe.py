"""A BPE of one's own: the same for the same text, kept, and of the size that was asked for."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data.bpe
from data.bpe import bpe_of, train_bpe
from data.subwords import SubwordTokenizer
from data.texts import Text
from subword_models import TEXT

DIGEST = "ab" * 32
TRAINED = train_bpe([Text.of(TEXT)], 400)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def texts() -> list[Text]:
    return [Text.of(TEXT[:3000]), Text.of(TEXT[3000:])]


def test_the_same_text_gives_the_same_tokens() -> None:
    one, two = (train_bpe(texts(), 500) for _ in range(2))
    assert one == two
    tokenizer = SubwordTokenizer(one, "<|endoftext|>")
    assert tokenizer.vocab_size == 500
    assert tokenizer.separator == 0
    assert len(tokenizer.encode(TEXT)) < len(TEXT.encode()) / 2


@settings(max_examples=30)
@given(st.text())
def test_any_text_has_tokens(text: str) -> None:
    tokenizer = SubwordTokenizer(TRAINED, "<|endoftext|>")
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert 0 not in tokenizer.encode(text + "<|endoftext|>")


def test_a_second_start_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = bpe_of(texts, DIGEST, 300)
    monkeypatch.setattr(data.bpe, "train_bpe", None)
    assert bpe_of(list, DIGEST, 300).state() == first.state()
    for digest, size in ((DIGEST, 301), ("cd" * 32, 300)):  # another size, another text
        with pytest.raises(TypeError):
            bpe_of(texts, digest, size)


def test_a_damaged_file_is_made_anew(cache_folder: Path) -> None:
    first = bpe_of(texts, DIGEST, 300)
    (file,) = (cache_folder / "tokenizers").iterdir()
    whole = file.read_text()
    for content in ("", "[]", "{}", "null", whole.replace("false", "true", 1), whole[:500]):
        file.write_text(content)
        assert bpe_of(texts, DIGEST, 300).state() == first.state()
        assert file.read_text() == whole


def test_fewer_tokens_than_asked_for_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = bpe_of(lambda: [Text.of("so few, so few, so few")], DIGEST)
    assert 257 < tokenizer.vocab_size < 280
    said = f"data.vocab_size=4096: this text gives no more than {tokenizer.vocab_size} tokens"
    assert said in capsys.readouterr().out


def test_of_a_very_long_text_a_part_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train_bpe([Text.of("aaaa bbbb " * 50), Text.of("cccc")], 300)
    monkeypatch.setattr(data.bpe, "MOST_CHARACTERS", 200)
    reports: list[tuple] = []
    half = train_bpe(
        [Text.of("aaaa bbbb " * 40 + "zzzz" * 20), Text.of("cccc")],
        300,
        lambda *r: reports.append(r),
    )
    assert "200 of the 484 characters" in capsys.readouterr().out
    assert "zz" in train_bpe([Text.of("zzzz" * 9)], 300) and '"zz"' not in half
    assert '"aaaa"' in half and '"aaaa"' in whole
    assert reports[-1] == ("Counting words for the tokenizer", 199, 199)
