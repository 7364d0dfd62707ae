"""Corpora: what is in them, how they are split, and every text that is refused."""

import hashlib
import os
import subprocess
import sys
import sysconfig
from itertools import islice
from pathlib import Path

import pytest

from cli.held_out import held_out_documents
from data import CharTokenizer, Corpus, load_corpus
from data.corpora import text_of_the_work
from data.download import find, pinned_files
from data.known import measure

ROOT = Path(__file__).resolve().parents[2]


def strings(corpus: Corpus) -> tuple[list[str], list[str]]:
    """The documents of both splits, whole."""
    return [str(text) for text in corpus.train], [str(text) for text in corpus.validation]


def sha256(corpus: Corpus) -> str:
    return measure(corpus, "byte").sha256


def downloaded(name: str) -> Corpus:
    """The corpus, if the cache folder holds its files; a test never downloads them."""
    if missing := [file.name for file in pinned_files(name) if find(file) is None]:
        pytest.skip(f"the cache folder lacks {', '.join(missing)}")
    return load_corpus(name)


@pytest.fixture(scope="module")
def stdlib() -> Corpus:
    return load_corpus("stdlib")


def test_stdlib_is_the_standard_library(stdlib: Corpus) -> None:
    train, validation = strings(stdlib)
    documents = train + validation
    library = Path(sysconfig.get_path("stdlib"))
    for name in ("argparse.py", "json/decoder.py", "email/message.py"):
        assert documents.count((library / name).read_text(encoding="utf-8")) == 1
    for name in ("unittest/mock.py", "tarfile.py"):
        assert (library / name).read_text(encoding="utf-8") in documents
    assert sum(map(len, documents)) > 5_000_000


def test_stdlib_leaves_out_tests_and_what_a_machine_generates(stdlib: Corpus) -> None:
    train, validation = strings(stdlib)
    documents = {*train, *validation}
    library = Path(sysconfig.get_path("stdlib"))
    patterns = ("test/*.py", "idlelib/*.py", "*/test*/*.py", "_sysconfigdata*.py", "config-*/*.py")
    left_out = [file for pattern in patterns for file in library.glob(pattern)]
    left_out += islice((library / "site-packages").rglob("*.py"), 100)
    assert left_out
    for file in left_out:
        content = file.read_bytes()
        if len(content) > 1000:  # shorter ones may well be alike
            assert content.decode("utf-8", "replace") not in documents, file


def test_stdlib_validation_has_long_documents_and_its_share(stdlib: Corpus) -> None:
    train, validation = ([len(text.encode()) for text in split] for split in strings(stdlib))
    assert sum(size > 8 * 256 for size in validation) >= 8
    assert 0.03 < sum(validation) / sum(train) < 0.06


@pytest.mark.parametrize("part", ["documents", "everything"])
def test_stdlib_is_the_same_in_every_process(stdlib: Corpus, part: str) -> None:
    """Set and dict orders differ with the hash seed: nothing may hang on them."""
    script = "import data; from data.known import measure; c = data.load_corpus('stdlib')"
    script += "; print(measure(c, 'byte').sha256)"
    if part == "everything":
        script += "; print(*map(hash, map(str, c.train[:5])))"  # the control: hashes do differ
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == (1 if part == "documents" else 2)
    assert all(output.split()[0] == sha256(stdlib) for output in outputs)


def test_sha256_is_that_of_the_texts(stdlib: Corpus) -> None:
    train, validation = strings(stdlib)
    text = "\0".join(train) + "\0".join(validation)
    assert sha256(stdlib) == hashlib.sha256(text.encode()).hexdigest()


def test_shakespeare_is_split_as_nanogpt_splits_it() -> None:
    corpus = downloaded("shakespeare")
    (train,), (validation,) = strings(corpus)
    assert (len(train), len(validation)) == (1_003_854, 111_540)
    assert len(set(train + validation)) == 65
    # Both splits, one after the other, are the file.
    assert sha256(corpus) == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def test_books_are_split_by_novel_and_cut_to_the_work() -> None:
    corpus = downloaded("books")
    texts = [str(text) for text in [*corpus.train, *corpus.validation, *corpus.report]]
    assert (len(corpus.train), len(corpus.validation), len(corpus.report)) == (5, 1, 1)
    for text, word in zip(
        texts,
        ["Rostóv", "Levin", "Jarndyce", "Alyosha", "Dedalus", "Casaubon", "Peggotty"],
        strict=True,
    ):
        assert word in text
        assert text[-1000:].count("Gutenberg") <= 1  # the licence is gone, a last line may stand
        assert "\r" not in text and "\ufeff" not in text and "*** " not in text[:100]


def test_text_of_the_work() -> None:
    text = "licence\n*** START OF THIS EBOOK X ***\nOne.\n*** two\n***END OF X***\nlicence\n"
    assert text_of_the_work(text) == "One.\n*** two\n"


def test_text_of_one_file(tmp_path: Path) -> None:
    file = tmp_path / "a [1].txt"  # a file's name comes before the glob that it could be
    file.write_text("é" * 100, encoding="utf-8")
    corpus = load_corpus("text", path=str(file))
    assert strings(corpus) == (["é" * 90], ["é" * 10])


def test_text_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.TXT", "a/c.Md", "a/b.py", "a/d.bin", ".git/e.txt", "a/.f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name * 10)
    (tmp_path / "empty.txt").touch()
    corpus = load_corpus("text", path=tmp_path)
    whole = [head + tail for head, tail in zip(*strings(corpus), strict=True)]
    assert whole == [name * 10 for name in ("a/b.py", "a/c.Md", "b.TXT")]


def test_text_of_a_glob(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / f"{i:02}.log").write_text(f"document {i}\n" * 9)
    train, validation = strings(load_corpus("text", path=str(tmp_path / "**" / "*.log")))
    assert sorted(train + validation) == sorted(f"document {i}\n" * 9 for i in range(12))
    assert len(validation) == 1  # ten or more documents stay whole


@pytest.mark.parametrize("count", [2, 12])
def test_held_out_documents_are_encoded_one_by_one(tmp_path: Path, count: int) -> None:
    """None needs a token for the separator, which the vocabulary of one text has not."""
    for i in range(count):
        (tmp_path / f"{i:02}.txt").write_text("naïve ropes\n" * 9)
    tokenizer = CharTokenizer("naïve ropes\n")
    documents = held_out_documents(
        tokenizer, {"corpus": "text", "path": str(tmp_path)}, "validation"
    )
    _, validation = strings(load_corpus("text", path=tmp_path))
    assert [tokenizer.decode(ids) for ids in documents] == validation
    assert len(documents) == (2 if count == 2 else 1)


def test_a_glob_splits_alike_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run keeps the absolute path, and by it finds the same split when it is resumed."""
    for i in range(40):
        (tmp_path / f"{i:02}.log").write_text(f"document {i}\n" * 9)
    monkeypatch.chdir(tmp_path)
    here, anywhere = (load_corpus("text", path=path) for path in ("*.log", tmp_path / "*.log"))
    assert strings(here) == strings(anywhere)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "is empty; "),
        (b"caf\xe9 noir", "0xe9 at offset 3, line 1"),
        ("é\n".encode() * 2 + b"\xff\xfe", "0xff at offset 6, line 3"),
        ("é text".encode("utf-16-le"), "0xe9 at offset 0"),
        ("é\nab".encode() + "cd".encode("utf-16-le"), "0x00 at offset 6, line 2"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "wrong.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError) as error:
        load_corpus("text", path=str(file))
    assert f"data.path={file}" in str(error.value)
    assert said in str(error.value)
    assert not content or "iconv" in str(error.value)


def test_wrong_file_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "wrong.txt").write_bytes(b"\x80")
    with pytest.raises(ValueError, match=r"data\.path=.*wrong\.txt: not UTF-8"):
        load_corpus("text", path=tmp_path)


@pytest.mark.parametrize(
    "path, said",
    [
        ("missing.txt", "data.path=missing.txt: no such file"),
        ("*.txt", "data.path=*.txt: no such file"),
        ("a\0b", "no such file"),
        ("x" * 5000, "File name too long"),
        ("", "must be a file, a folder or a glob"),
        (7, "data.path=7: must be a file"),
        ("/dev/zero", "must be a regular file"),
        (".", "no .txt, .md, .py, .jsonl, .ndjson, .parquet file"),
    ],
)
def test_paths_that_lead_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        load_corpus("text", path=path)
    assert said in str(error.value)
    assert str(error.value).startswith("data.path=")
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize(
    "name, path, said",
    [
        (
            "stlib",
            None,
            "must be one of books, huggingface, mix, shakespeare, stdlib, text; try data.corpus=",
        ),
        (
            None,
            None,
            "data.corpus=null: must be one of books, huggingface, mix, shakespeare, stdlib, text;",
        ),
        (["text"], None, "data.corpus=[text]: must be one of"),
        ("stdlib", "x.txt", "data.path=x.txt: data.corpus=stdlib reads no path; use data=text"),
        ("text", None, "data.path=null: data.corpus=text needs a file"),
        ("text", "https://example.org/a/b.txt?raw", "not a URL; download it, then data.path=b.txt"),
        ("text", "HTTP://example.org", "data.path=HTTP://example.org: must be a path on"),
        ("text", "file:///home/me/b.txt", "take data.path=/home/me/b.txt"),
    ],
)
def test_corpora_that_there_are_not(name: str, path: str | None, said: str) -> None:
    with pytest.raises(ValueError) as error:
        load_corpus(name, path=path)
    assert said in str(error.value)
