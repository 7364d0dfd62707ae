"""Data sets of the library `datasets`: saved, in folders, and of a Hub that a test plays."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.held_out import held_out_documents
from cli.resume import differs
from data import ByteTokenizer, TextDataModule, load_corpus
from data.corpora import lasting_path
from data.documents import by_document
from data.origin import Origin
from runs import checkpoint, fit

datasets = pytest.importorskip("datasets")

OLD = 1_700_000_000
TEXTS = [f"text {n}, of naïve ropes — laid straight\n" * (1 + n % 5) for n in range(40)]
OWN = [f"held out {n}\n" * 20 for n in range(12)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    return tmp_path / "cache"


def dataset(texts: list[str | None]) -> Any:
    return datasets.Dataset.from_dict({"id": range(len(texts)), "text": texts})


def saved(path: Path, **splits: list[str | None]) -> Path:
    """A data set as `save_to_disk` writes it; of one split called `only` by itself."""
    made = {name: dataset(texts) for name, texts in splits.items()}
    (made.get("only") or datasets.DatasetDict(made)).save_to_disk(str(path))
    for file in path.rglob("*"):
        os.utime(file, (OLD, OLD))
    return path


def strings(path: Path | str, **keys: Any) -> tuple[list[str], list[str]]:
    """The documents of both splits."""
    corpus = load_corpus("huggingface", path=str(path), **keys)
    splits = (corpus.train, corpus.validation)
    train, validation = (
        ["".join(pieces) for text in texts for pieces in by_document(text)] for texts in splits
    )
    return train, validation


SHARED = ([text for i, text in enumerate(TEXTS) if i % 10 != 9], TEXTS[9::10])


def test_a_saved_data_set(tmp_path: Path) -> None:
    assert strings(saved(tmp_path / "a", only=[*TEXTS[:20], None, "", *TEXTS[20:]])) == SHARED
    assert strings(tmp_path / "a", documents=22)[1] == TEXTS[9:20:10]  # two of them are empty


def test_its_own_validation_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "a", train=TEXTS, validation=OWN, test=TEXTS)
    assert strings(path) == (TEXTS, OWN)
    assert capsys.readouterr().out == f"data.path={path}: validated on its own split for that\n"
    assert strings(path, documents=20) == (TEXTS[:20], OWN[:2])
    assert strings(path, split="test") == SHARED  # which it does not belong to


def test_a_folder_of_files(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    dataset(TEXTS).to_parquet(str(home / "train.parquet"))
    dataset(OWN).to_json(str(home / "validation.jsonl"))
    with pytest.raises(ValueError, match=r"data\.path=.*home: "):
        strings(home)  # of two kinds
    (home / "validation.jsonl").unlink()
    dataset(OWN).to_parquet(str(home / "validation.parquet"))
    assert strings(home) == (TEXTS, OWN)


@pytest.mark.parametrize(
    "keys, said",
    [
        ({"split": "tests"}, "data.split=tests: must be a split of .*; did you mean data.split=te"),
        ({"split": "none"}, "data.split=none: must be a split of .*; there is test, train"),
        (
            {"text_key": "body"},
            "data.text_key=body: no such field in split train .* try .*=text",
        ),
        ({"text_key": "id"}, "data.text_key=id: must be a column of text, .* it is int64; try"),
        ({"name": "en"}, "data.name=en: a saved data set has no configurations"),
        ({"documents": 0}, "data.documents=0: must be null or an integer of at least 2"),
    ],
)
def test_what_a_data_set_does_not_have(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    path = saved(tmp_path / "a", test=TEXTS, train=TEXTS)
    with pytest.raises(ValueError, match=said) as error:
        strings(path, **keys)
    assert len(str(error.value).splitlines()) <= 2


def test_one_of_several_splits_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.split=null: must be a split of .* a, b"):
        strings(saved(tmp_path / "ab", a=TEXTS, b=TEXTS))
    assert strings(saved(tmp_path / "a", a=TEXTS)) == SHARED


@pytest.mark.parametrize(
    "path, said",
    [
        (None, "data.path=null: data.corpus=huggingface needs a data set"),
        ("no such folder", "no such folder, seen from .*, and no name of the Hub"),
        ("a/b/c", "no such folder, seen from"),
        ("text.txt", "data.path=text.txt: is a file; use data=text data.path=text.txt"),
        ("https://huggingface.co/datasets/a/b/tree/main", "not its page; try data.path=a/b$"),
        ("empty", "data.path=.*empty: "),
        ("damaged", "data.path=.*damaged: "),
    ],
)
def test_what_is_no_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    for file in saved(tmp_path / "damaged", only=TEXTS).glob("*.arrow"):
        file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=said) as error:
        load_corpus("huggingface", path=path)
    assert len(str(error.value).splitlines()) <= 2


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.huggingface.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install '\.\[hf\]'"):
        TextDataModule("huggingface", str(tmp_path))


def prepared(path: Path | str, **keys: Any) -> TextDataModule:
    module = TextDataModule("huggingface", str(path), seq_len=16, **keys)
    module.prepare()
    return module


def test_a_second_start_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(saved(tmp_path / "a", train=TEXTS, validation=OWN))
    assert [bytes(ids).decode() for ids in first.val_documents] == OWN
    monkeypatch.setattr("data.corpora.dataset_texts", lambda *_: pytest.fail("read again"))
    second = prepared(tmp_path / "a")
    assert first.fingerprint == second.fingerprint
    assert all(map(np.array_equal, first.val_documents, second.val_documents))


def test_a_run_and_its_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a path that leads there from anywhere."""
    monkeypatch.chdir(saved(tmp_path / "home" / "a", train=TEXTS, validation=OWN).parent)
    options = ("data=huggingface", "data.path=a", "trainer.max_steps=2")
    run = fit(tmp_path, "run", *options)
    config = checkpoint(run.directory)["ropewalk"]["config"]["data"]
    assert config["path"] == str(tmp_path / "home" / "a")
    documents = held_out_documents(ByteTokenizer(), config, "validation")
    assert [bytes(ids).decode() for ids in documents] == OWN


class Hub:
    """A Hub with one data set, `owner/name`, and a count of what was read of it."""

    def __init__(self) -> None:
        self.texts, self.commit, self.records, self.reachable = [*TEXTS], "a" * 40, 0, True

    def newest(self, name: str, revision: str | None) -> str:
        if not self.reachable:
            raise ConnectionError("no way there")
        if name != "owner/name":
            raise ValueError(f"data.path={name}: no such data set on the Hugging Face Hub")
        return self.commit

    def load_dataset(self, name: str, config: str | None, *, revision: str, streaming: bool) -> Any:
        assert (name, config, revision, streaming) == ("owner/name", "en", self.commit, True)

        def counted(texts: list[str]) -> Iterator[dict[str, str]]:
            for text in texts:
                self.records += 1
                yield {"text": text}

        splits = {"train": self.texts, "validation": OWN}
        stream = datasets.IterableDataset.from_generator
        return {name: stream(counted, gen_kwargs={"texts": t}) for name, t in splits.items()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    played = Hub()
    monkeypatch.setattr("data.hub._commit", played.newest)
    monkeypatch.setattr(datasets, "load_dataset", played.load_dataset)
    return played


def test_what_is_on_the_hub_is_streamed_once(
    hub: Hub, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert strings("owner/name", name="en") == (TEXTS, OWN)
    assert hub.records == len(TEXTS) + len(OWN)
    assert strings("owner/name", name="en") == (TEXTS, OWN)
    assert capsys.readouterr().out.count("Streaming train of owner/name into ") == 1
    hub.reachable = False
    assert strings("owner/name", name="en") == (TEXTS, OWN)
    assert "the Hub cannot be reached; taken as it was, @aaaaaaaaaaaa" in capsys.readouterr().out
    assert strings(f"owner/name@{hub.commit}", name="en") == (TEXTS, OWN)
    assert "reached" not in capsys.readouterr().out
    assert hub.records == len(TEXTS) + len(OWN)
    files = sorted(path.name for path in cache.rglob("*.parquet"))
    assert files == ["train.parquet", "validation.parquet"]


def test_what_was_removed_is_streamed_again(hub: Hub, cache: Path) -> None:
    strings("owner/name", name="en")
    next(cache.rglob("train.parquet")).unlink()
    assert strings("owner/name", name="en") == (TEXTS, OWN)


def test_a_part_of_it_alone_is_streamed(hub: Hub) -> None:
    assert strings("owner/name", name="en", documents=20) == (TEXTS[:20], OWN[:2])
    assert hub.records == 22


def test_a_new_revision_is_another_text(hub: Hub) -> None:
    first = prepared("owner/name", name="en")
    kept = lasting_path(first.origin)
    assert kept == f"owner/name@{hub.commit}"
    hub.texts, hub.commit = [*TEXTS, "more\n"], "b" * 40
    assert prepared("owner/name", name="en").fingerprint != first.fingerprint
    assert prepared(kept, name="en").fingerprint == first.fingerprint  # a run goes on with its own


def test_a_sweep_goes_on_with_its_own_revision() -> None:
    """The path that was typed names it no less."""
    then = {"data.path": "owner/name@" + "a" * 40}
    for typed, differs_now in (("owner/name", False), ("owner/names", True), ("name", True)):
        assert differs(then, {"data.path": typed}, ["data.path"], ended=True) == differs_now


def test_nothing_of_it_half_streamed(hub: Hub, cache: Path) -> None:
    hub.texts[30] = "a\0b"
    with pytest.raises(ValueError, match=r"record 31 of owner/name@a{40} holds the character NUL"):
        strings("owner/name", name="en")
    assert not [*cache.rglob("*.parquet"), *cache.rglob("*.part"), *cache.rglob("origin.json")]


def test_the_hub_is_out_of_reach(hub: Hub) -> None:
    hub.reachable = False
    said = r"data\.path=owner/name: the Hugging Face Hub cannot be reached \(no way there\)"
    with pytest.raises(ValueError, match=said) as error:
        strings("owner/name", name="en")
    assert len(str(error.value).splitlines()) == 2


def test_no_such_field_on_the_hub(hub: Hub) -> None:
    with pytest.raises(ValueError, match=r"no such field in owner/name.*fields are text; try .*=t"):
        strings("owner/name", name="en", text_key="body")


def test_no_room_for_all_of_it(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    load = hub.load_dataset

    def large(*arguments: Any, **keys: Any) -> Any:
        found = load(*arguments, **keys)
        for split, one in found.items():
            one.info.splits = {split: datasets.SplitInfo(split, num_bytes=10**18)}
            one._split = datasets.NamedSplit(split)
        return found

    monkeypatch.setattr(datasets, "load_dataset", large)
    with pytest.raises(ValueError, match=r"data\.documents=null: .* take a part of it, e\.g\."):
        strings("owner/name", name="en")
    assert strings("owner/name", name="en", documents=20)[0] == TEXTS[:20]


def test_origins_of_other_corpora_stay_as_they_are() -> None:
    assert lasting_path(Origin("stdlib")) is None
    assert lasting_path(Origin("text", "a.txt")) == str(Path("a.txt").absolute())
