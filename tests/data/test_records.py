"""Records and compressed texts: every record a document, and every damaged file refused by name."""

import bz2
import gzip
import json
import lzma
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import TextDataModule, load_corpus
from data.documents import by_document
from data.recordfiles import RecordFile
from data.textfiles import TextFile
from data.userfiles import untold
from many_documents import DOCUMENTS
from runs import checkpoint, fit

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

OLD = 1_700_000_000
LINES = [f"line {n}, of naïve ropes — laid straight\n" * (1 + n % 5) for n in range(40)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def as_json(texts: Sequence[object], key: str = "text") -> bytes:
    records = (json.dumps({"id": i, key: text}) for i, text in enumerate(texts))
    return "".join(f"{record}\n" for record in records).encode()


def zstd(content: bytes) -> bytes:
    return pyarrow.compress(content, codec="zstd", asbytes=True)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".ZST": zstd,
}


def write_parquet(path: Path, texts: Sequence[str | None], key: str = "text") -> Path:
    table = pyarrow.table({"id": range(len(texts)), key: texts})
    parquet.write_table(table, path, row_group_size=7)
    return path


def documents(path: Path, key: str = "text") -> list[str]:
    return list(RecordFile(path).documents(key, untold))


def strings(path: Path, **keys: str) -> tuple[list[str], list[str]]:
    """The documents of both splits."""
    corpus = load_corpus("text", path=str(path), **keys)
    splits = (corpus.train, corpus.validation)
    train, validation = (
        ["".join(pieces) for text in texts for pieces in by_document(text)] for texts in splits
    )
    return train, validation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@settings(max_examples=30, deadline=None)  # the first one loads pyarrow
@given(texts=DOCUMENTS, escaped=st.booleans())
def test_the_records_are_what_was_written(folder: Path, texts: list[str], escaped: bool) -> None:
    lines = [json.dumps({"text": text}, ensure_ascii=escaped) for text in texts]
    (folder / "a.jsonl").write_bytes("\r\n".join(lines).encode())
    assert documents(folder / "a.jsonl") == texts
    (folder / "a.ndjson").write_bytes("\n".join(map(json.dumps, texts)).encode())
    assert documents(folder / "a.ndjson") == texts  # texts by themselves
    assert documents(write_parquet(folder / "a.parquet", [*texts, ""])) == texts


@pytest.mark.parametrize("suffix", PACKED)
def test_compressed_records_and_texts(tmp_path: Path, suffix: str) -> None:
    records, text = tmp_path / f"a.JSONL{suffix}", tmp_path / f"a.txt{suffix}"
    records.write_bytes(PACKED[suffix](as_json(LINES)))
    text.write_bytes(PACKED[suffix]("".join(LINES).encode()))
    assert strings(records) == (
        [line for i, line in enumerate(LINES) if i % 10 != 9],
        LINES[9::10],
    )
    plain = tmp_path / "plain.txt"
    plain.write_text("".join(LINES))
    assert strings(text) == strings(plain)


@settings(max_examples=30)
@given(content=st.text("aé€\U0001f600\n", max_size=60), block=st.integers(1, 9), data=st.data())
def test_stretches_of_a_compressed_text(
    folder: Path, content: str, block: int, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.textfiles.BLOCK", block)
        patch.setattr("data.userfiles.BLOCK", block)
        (folder / "a.txt.gz").write_bytes(gzip.compress(content.encode()))
        text = TextFile(folder / "a.txt.gz").text(untold)
        stretch = slice(*sorted(data.draw(st.tuples(st.integers(0, 60), st.integers(0, 60)))))
        assert str(text[stretch]) == content[stretch]


def test_nothing_is_read_of_an_empty_record_or_a_blank_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text": "one"}\n\n \n{"text": ""}\n{"text": null}\n"two"\n'
    )
    assert documents(tmp_path / "a.jsonl") == ["one", "two"]
    assert documents(write_parquet(tmp_path / "a.parquet", ["one", None, "", "two"])) == [
        "one",
        "two",
    ]


def test_a_mixed_folder(tmp_path: Path) -> None:
    """Texts are split as they are alone, and the records of all files together."""
    home = tmp_path / "home"
    (home / "b").mkdir(parents=True)
    (home / "notes.txt").write_text("n" * 100)
    (home / "b/a.jsonl.gz").write_bytes(gzip.compress(as_json(LINES[:15])))
    write_parquet(home / "b/b.parquet", LINES[15:])
    (home / "b/c.json").write_text("no text")
    train, validation = strings(home)
    assert train == ["n" * 90, *(line for i, line in enumerate(LINES) if i % 10 != 9)]
    assert validation == ["n" * 10, *LINES[9::10]]


def test_a_field_of_another_name(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(as_json(LINES, "body"))
    write_parquet(tmp_path / "a.parquet", LINES, "body")
    for name in ("a.jsonl", "a.parquet"):
        assert strings(tmp_path / name, text_key="body")[1] == LINES[9::10]


CUT = as_json(LINES)[:-5]
REFUSED = [
    ("a.jsonl", b'{"text": "a"}\n{"text": "b"\n', "line 2 is broken JSON (Expecting ',' delimiter"),
    ("a.jsonl", CUT, f"line {len(LINES)} is broken JSON (Unterminated string"),
    ("a.jsonl", b'{\n "text": "a"\n}\n', "line 1 is broken JSON"),
    ("a.jsonl", b"[" * 9000, "line 1 is broken JSON ("),  # too deep, or without an end
    ("a.jsonl", b"9" * 5000, "line 1 is broken JSON (Exceeds the limit"),
    ("a.jsonl", b"\n[1, 2]\n", "line 2 is a list; each line must be one JSON object or text"),
    ("a.jsonl", b"7\n", "line 1 is a number; each line must be"),
    ("a.jsonl", b"null\n", "line 1 is null; each line must be"),
    ("a.jsonl", b'{"text": ["a"]}\n', "line 1, field text, is a list; must be text"),
    ("a.jsonl", b'{"text": "a\\u0000"}\n', "line 1, field text, holds the character NUL"),
    ("a.jsonl", b'{"text": "a\\ud800"}\n', "line 1, field text, holds half of a surrogate pair"),
    ("a.jsonl", b'{"text": "caf\xe9"}\n', "line 1 is not UTF-8 text (byte 0xe9 at offset 13)"),
    (
        "a.jsonl",
        b'{"text": "a"}\n{"id": 1, "body": "b", "title": "c"}\n',
        "data.text_key=text: no such field in line 2 of",
    ),
    ("a.jsonl", b'{"id": 1, "body": "b"}\n', "fields are id, body; try data.text_key=body"),
    ("a.jsonl", b'{"id": 1}\n', "fields are id; none of them is text"),
    ("a.jsonl", b'{"text": "%s"}' % (b"a" * 10_000), "line 1 is longer than 10,000 bytes"),
    (
        "a.jsonl.gz",
        gzip.compress(CUT, mtime=0)[:-20],
        "is damaged, or cut short (Compressed file ended",
    ),
    ("a.txt.gz", b"no gzip at all", "is damaged, or cut short (Not a gzipped file"),
    ("a.txt.gz", gzip.compress(b"\xff", mtime=0), "not UTF-8 text (byte 0xff at offset 0"),
    ("a.txt.bz2", bz2.compress(CUT)[:-20], "is damaged, or cut short"),
    ("a.txt.bz2", b"no bzip2 at all", "is damaged, or cut short"),
    ("a.txt.xz", lzma.compress(CUT)[:-20], "is damaged, or cut short"),
    ("a.txt.xz", b"no xz at all", "is damaged, or cut short"),
    ("a.txt.zst", zstd(CUT)[:-20], "is damaged, or cut short"),
    ("a.txt.zst", b"no zstd at all", "is damaged, or cut short"),
    ("a.parquet", b"no Parquet at all", "not a whole Parquet file"),
    ("a.parquet", b"PAR1" + bytes(100), "not a whole Parquet file"),
]


@pytest.mark.parametrize("name, content, said", REFUSED)
def test_files_that_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, said: str
) -> None:
    monkeypatch.setattr("data.recordfiles.LONGEST_LINE", 10_000)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        load_corpus("text", path=str(tmp_path))
    assert said in str(error.value)
    assert str(tmp_path / name) in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize(
    "key, said",
    [
        ("body", "data.text_key=body: no such field in .*, whose fields are id, text; try .*=text"),
        ("id", "data.text_key=id: must be a column of text, but in .* it is int64; try .*=text"),
    ],
)
def test_columns_that_are_no_text(tmp_path: Path, key: str, said: str) -> None:
    write_parquet(tmp_path / "a.parquet", LINES)
    with pytest.raises(ValueError, match=said):
        load_corpus("text", path=str(tmp_path), text_key=key)


def test_a_field_of_a_text_without_records(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ValueError, match="holds texts and no records; leave it out"):
        load_corpus("text", path=str(tmp_path), text_key="body")
    for keys in ({"text_key": ""}, {"text_key": "body"}, {"documents": 5}, {"split": "train"}):
        with pytest.raises(ValueError, match=r"data\.(text_key|documents|split)="):
            load_corpus("stdlib", **keys)


@pytest.mark.parametrize("name", ["a.parquet", "a.txt.zst"])
def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name).write_bytes(b"whatever")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"files need pyarrow; pip install '\.\[hf\]'"):
        load_corpus("text", path=str(tmp_path))


def test_a_file_that_changes_between_two_readings(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(as_json(LINES))
    corpus = load_corpus("text", path=str(tmp_path))
    with open(tmp_path / "a.jsonl", "ab") as file:
        file.write(as_json(["more"]))
    with pytest.raises(ValueError, match="has changed while it was read"):
        str(corpus.validation[0])


def prepared(path: Path, **keys: str) -> TextDataModule:
    module = TextDataModule("text", str(path), "char", seq_len=16, **keys)
    module.prepare()
    return module


def test_a_second_start_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "a.jsonl.gz").write_bytes(gzip.compress(as_json(LINES)))
    write_parquet(home / "b.parquet", LINES)
    for file in home.iterdir():
        os.utime(file, (OLD, OLD))
    first = prepared(home)
    assert [first.tokenizer.decode(ids) for ids in first.val_documents] == [*LINES, *LINES][9::10]
    monkeypatch.setattr(RecordFile, "documents", lambda *_: pytest.fail("read again"))
    second = prepared(home)
    assert first.fingerprint == second.fingerprint
    assert all(map(np.array_equal, first.val_documents, second.val_documents))


def test_another_field_is_another_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(json.dumps({"a": f"a {n}" * 9, "b": "b" * 99}) + "\n" for n in range(40))
    )
    os.utime(path, (OLD, OLD))
    texts = [prepared(path, text_key=key) for key in ("a", "b", "a")]
    assert [set(module.tokenizer.characters) >= {"a"} for module in texts] == [True, False, True]
    assert texts[0].fingerprint == texts[2].fingerprint != texts[1].fingerprint


def test_a_run_on_records(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(as_json(LINES, "body"))
    options = (f"data.path={tmp_path / 'a.jsonl'}", "data.text_key=body")
    run = fit(tmp_path, "run", *options, "trainer.max_steps=2", "data.tokenizer=char")
    identity = checkpoint(run.directory)["ropewalk"]
    assert identity["config"]["data"]["text_key"] == "body"
    assert identity["fingerprint"]["n_val_tokens"] == 65
    resumed = fit(tmp_path, "run", *options, f"resume={run.directory}", "trainer.max_steps=4")
    assert checkpoint(resumed.directory)["global_step"] == 4
