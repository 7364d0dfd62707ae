"""Subword tokenizers against the library that they are of, and their bytes against the text's."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers import models, pre_tokenizers

import data.subword_blocks
from data import SubwordTokenizer, encode_whole, tokenizer_from_state
from data.passkey import character_ids
from data.subword_blocks import agreed
from data.subword_files import separator_of
from subword_models import KINDS, TEXT, byte_fallback, byte_level, unigram

ALL = pytest.mark.parametrize("kind", KINDS)
LOSSLESS = pytest.mark.parametrize("kind", ["byte-level", "byte-fallback"])
EXAMPLES = [
    TEXT[:500],
    " two  spaces at the beginning ",
    "\n\n\t\r\n",
    "a",
    "日本語, 😀 and e\u0301",
    "",
]
PIECES = [
    "a",
    "the ",
    " ",
    "  \n",
    "\t",
    "é",
    "e\u0301",
    "ﬁ",
    "😀",
    "1",
    "7919",
    "==",
    "x" * 30,
    "_",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4)).map("".join)


@cache
def tokenizer(kind: str) -> SubwordTokenizer:
    description = KINDS[kind]()
    return SubwordTokenizer(description, separator_of(description, None))


@cache
def library(kind: str) -> LibraryTokenizer:
    return LibraryTokenizer.from_str(KINDS[kind]())


@ALL
@pytest.mark.parametrize("text", EXAMPLES)
def test_ids_and_text_are_the_librarys(kind: str, text: str) -> None:
    ours, theirs = tokenizer(kind), library(kind)
    ids = theirs.encode(text, add_special_tokens=False).ids
    assert ours.encode(text).tolist() == ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)
    assert encode_whole(ours, [text]).dtype == (np.uint16 if ours.vocab_size > 256 else np.uint8)


@LOSSLESS
@settings(max_examples=30)
@given(text=TEXTS)
def test_any_text_comes_back_and_its_bytes_are_counted(kind: str, text: str) -> None:
    ours = tokenizer(kind)
    ids = ours.encode(text)
    assert ours.decode(ids) == text
    prepended = kind == "byte-fallback" and text != ""  # a space, at the beginning of a document
    assert ours.token_bytes[ids].sum() == len(text.encode()) + prepended


def test_bytes_of_single_tokens() -> None:
    ours, theirs = tokenizer("byte-fallback"), library("byte-fallback")
    sizes = {
        token: ours.token_bytes[theirs.token_to_id(token)] for token in ("<0x0A>", "▁", "</s>")
    }
    assert sizes == {"<0x0A>": 1, "▁": 1, "</s>": 0}
    assert tokenizer("byte-level").token_bytes[0] == 0  # <|endoftext|>


@ALL
@settings(max_examples=15)
@given(text=TEXTS, at=st.integers(0, 40))
def test_streams_are_what_each_token_adds(kind: str, text: str, at: int) -> None:
    ours = tokenizer(kind)
    ids = ours.encode(text).tolist()
    arrived: list[int] = []
    shown = ""
    for piece in ours.decode_stream(i for i in ids if not arrived.append(i)):
        shown += piece
        if len(arrived) < len(ids):  # what is shown is all that is whole
            assert ours.decode(arrived).rstrip("\ufffd") == shown.rstrip("\ufffd")
    assert shown == ours.decode(ids)
    before, new = ids[:at], ids[at:]
    if "\ufffd" not in ours.decode(before):
        assert ours.decode(before) + "".join(ours.decode_stream(new, before)) == ours.decode(ids)


def test_a_continuation_keeps_its_space() -> None:
    for kind in ("byte-fallback", "unigram"):
        ours = tokenizer(kind)
        before, new = ours.encode("the").tolist(), ours.encode("best of").tolist()
        assert "".join(ours.decode_stream(new, before)) == " best of"
        assert "".join(ours.decode_stream(new)) == "best of"


def test_ids_of_no_token_stand_for_nothing() -> None:
    ours = tokenizer("byte-level")
    ids = ours.encode("a b").tolist()
    assert ours.decode([*ids, ours.vocab_size + 5]) == "a b"
    with pytest.raises(ValueError, match="token id -1"):
        ours.decode([-1])


@ALL
def test_special_tokens_in_a_text_are_its_letters(kind: str) -> None:
    ours = tokenizer(kind)
    # All but the first, of most kinds: it stands for what is unknown, which "<" may be.
    special = [t.content for t in library(kind).get_added_tokens_decoder().values() if t.special]
    numbers = {library(kind).token_to_id(token) for token in special[kind != "byte-level" :]}
    for token in special:
        for text in (token, f"a{token}b", f"a {token} b"):
            assert not numbers & set(ours.encode(text).tolist()), text


def test_a_special_word_of_a_vocabulary_of_words() -> None:
    theirs = LibraryTokenizer(models.WordLevel({"?": 0, "a": 1, "</s>": 2, "b": 3}, unk_token="?"))
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    theirs.add_special_tokens(["</s>"])
    ours = SubwordTokenizer(theirs.to_str(), "</s>")
    assert ours.encode("a </s> b").tolist() == [1, 0, 3]
    assert encode_whole(ours, ["a", "\0b"]).tolist() == [1, 2, 3]


def test_nothing_is_cut_added_or_drawn() -> None:
    theirs = LibraryTokenizer.from_str(byte_fallback())
    expected = theirs.encode(TEXT, add_special_tokens=False).ids
    theirs.enable_truncation(5)
    theirs.enable_padding(length=9999)
    content = json.loads(theirs.to_str())
    content["model"]["dropout"] = 0.5
    ours = SubwordTokenizer(json.dumps(content), "</s>")
    assert ours.encode(TEXT).tolist() == expected
    assert ours.beginning == [1]
    assert tokenizer("byte-level").beginning == []


# Long texts


@pytest.fixture(params=[(120, 60), (300, 100)])
def small_windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.subword_blocks, "WINDOW", request.param[0])
    monkeypatch.setattr(data.subword_blocks, "OVERLAP", request.param[1])


def cut(text: str, at: Sequence[int]) -> list[str]:
    ends = sorted(min(n, len(text)) for n in at)
    return [text[i:j] for i, j in zip([0, *ends], [*ends, len(text)], strict=True)]


LONG = st.lists(st.sampled_from([*PIECES, TEXT[:90], "=" * 200, " " * 150, "ab" * 80]), max_size=60)


@ALL
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=LONG.map("".join), at=st.lists(st.integers(0, 3000), max_size=5))
@pytest.mark.usefixtures("small_windows")
def test_blocks_have_the_ids_of_the_whole(kind: str, text: str, at: list[int]) -> None:
    ours = tokenizer(kind)
    assert encode_whole(ours, cut(text, at)).tolist() == ours.encode(text).tolist()


@pytest.mark.usefixtures("small_windows")
def test_windows_grow_where_nothing_is_agreed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = tokenizer("word-piece")
    text = "the best" + " " * 5000 + "of times"  # no token in most of the windows
    assert encode_whole(ours, [text]).tolist() == ours.encode(text).tolist()
    encoded: list[int] = []
    encode = ours._encode
    monkeypatch.setattr(ours, "_encode", lambda ts: encoded.extend(map(len, ts)) or encode(ts))
    encode_whole(ours, [text])
    assert sum(encoded) < 10 * len(text)  # and not once for every window


def test_neighbours_are_cut_in_the_middle_of_what_both_found() -> None:
    tail = [data.subword_blocks.Place(n, n, n + 1) for n in range(20)]
    other = data.subword_blocks.Place(99, 0, 1)
    assert agreed(tail, tail) == (10, 10)
    assert agreed(tail, [other, *tail[8:]]) == (12, 5)
    assert agreed(tail, [*tail[:7], other, *tail[7:14]]) is None
    assert agreed([], tail) is None


@ALL
def test_documents_are_encoded_one_by_one(kind: str) -> None:
    ours, documents = tokenizer(kind), ["The best of", " times,", "", "it was"]
    expected: list[int] = []
    for number, document in enumerate(documents):
        expected += [ours.separator] * bool(number) + ours.encode(document).tolist()
    text = "\0".join(documents)
    for blocks in ([text], [*text], cut(text, [11, 12, 19, 20])):
        assert encode_whole(ours, blocks).tolist() == expected


def test_documents_need_a_separator() -> None:
    ours = SubwordTokenizer(byte_level(), "")
    assert ours.separator == -1
    assert len(encode_whole(ours, ["one document"])) > 0
    with pytest.raises(ValueError, match="no special token to stand between the documents"):
        encode_whole(ours, ["one\0two"])


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        tokenizer("byte-level").encode("a\ud800")


def test_a_text_that_has_no_tokens_is_refused() -> None:
    content = json.loads(unigram())
    content["model"]["unk_id"] = None
    with pytest.raises(ValueError, match="has no token for something in the text"):
        SubwordTokenizer(json.dumps(content)).encode("日本")


# States and files


@ALL
def test_state_survives_json(kind: str) -> None:
    ours = tokenizer(kind)
    again = tokenizer_from_state(json.loads(json.dumps(ours.state())))
    assert isinstance(again, SubwordTokenizer)
    assert again.state() == ours.state() and again.sha256 == ours.sha256
    assert again.separator == ours.separator
    assert again.encode(TEXT[:300]).tolist() == ours.encode(TEXT[:300]).tolist()
    assert all(isinstance(value, str) for value in ours.state().values())


def test_a_file_and_its_folder_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(byte_fallback()), indent=2), encoding="utf-8")
    of_file, of_folder = (SubwordTokenizer.from_file(path) for path in (file, tmp_path))
    assert of_file.state() == of_folder.state() == tokenizer("byte-fallback").state()
    assert of_file.separator == 2  # </s>


@pytest.mark.parametrize("token", ['"<s>"', '{"content": "<s>", "lstrip": false}'])
def test_the_folders_settings_name_the_separator(tmp_path: Path, token: str) -> None:
    (tmp_path / "tokenizer.json").write_text(byte_fallback(), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(f'{{"eos_token": {token}}}')
    assert SubwordTokenizer.from_file(tmp_path).separator == 1
    (tmp_path / "tokenizer_config.json").write_text("[damaged")
    assert SubwordTokenizer.from_file(tmp_path).separator == 2


DAMAGED = [
    "",
    "{}",
    "[1]",
    "null",
    "version https://git-lfs.github.com/spec/v1",
    byte_level()[:999],
]


@pytest.mark.parametrize("content", [*DAMAGED, byte_level().replace('"BPE"', '"XYZ"')])
def test_damaged_files_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"^data\.tokenizer=.*: is no tokenizer\.json that"):
        SubwordTokenizer.from_file(file)
    with pytest.raises(ValueError, match=r"^checkpoint=x: is no"):
        SubwordTokenizer.from_file(file, "checkpoint=x")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder"):
        SubwordTokenizer.from_file(tmp_path / "none.json")
    with pytest.raises(ValueError, match=r"holds no tokenizer\.json"):
        SubwordTokenizer.from_file(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"\0")
    with pytest.raises(ValueError, match=r"holds tokenizer\.model .*(?s:.*)save_pretrained"):
        SubwordTokenizer.from_file(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is no JSON"):
        SubwordTokenizer.from_file(tmp_path)


@pytest.mark.parametrize("changed", [{"separator": "<no>"}, {"json": "{}"}])
def test_states_that_are_no_tokenizers(changed: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="tokenizer"):
        tokenizer_from_state(tokenizer("byte-level").state() | changed)


def test_which_tokenizers_lose_something() -> None:
    lossy = {kind: tokenizer(kind).is_lossy for kind in KINDS}
    assert lossy == {
        "byte-level": False,
        "byte-fallback": False,
        "unigram": True,
        "word-piece": True,
    }


def test_a_decoder_that_needs_the_whole_is_refused() -> None:
    content = json.loads(byte_level()) | {"decoder": {"type": "BPEDecoder", "suffix": "</w>"}}
    with pytest.raises(ValueError, match="its decoder BPEDecoder"):
        SubwordTokenizer(json.dumps(content))


def test_single_characters_where_they_are_tokens() -> None:
    ids = character_ids(tokenizer("byte-level"))
    assert tokenizer("byte-level").decode(ids[[*b"[the key"]]) == "[the key"
    with pytest.raises(ValueError, match="has no token for"):  # but for ones with a space
        character_ids(tokenizer("byte-fallback"))


@pytest.mark.slow
@ALL
def test_transformers_has_the_same_ids_and_text(kind: str) -> None:
    from transformers import PreTrainedTokenizerFast

    ours, theirs = tokenizer(kind), PreTrainedTokenizerFast(tokenizer_object=library(kind))
    for text in EXAMPLES:
        ids = theirs.encode(text, add_special_tokens=False)
        assert ours.encode(text).tolist() == ids
        assert ours.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)


@pytest.mark.slow
@ALL
def test_a_megabyte_in_blocks(kind: str) -> None:
    words = np.random.default_rng(0).choice(TEXT.split(" "), size=200_000)
    text = " ".join(words.tolist())
    ours = tokenizer(kind)
    assert encode_whole(ours, cut(text, [99_999, 500_000])).tolist() == ours.encode(text).tolist()
