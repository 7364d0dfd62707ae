"""From a name to a folder: paths, and names on the Hub without network."""

from pathlib import Path

import pytest
from huggingface_hub import constants, errors

import hf
from folders import write_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of Hugging Face, without network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def fetched(cache: Path, repo: str, revision: str = "main") -> Path:
    """A model in the cache, as if it had been fetched."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / revision).write_text(COMMIT)
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    write_folder(snapshot)
    return snapshot


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert hf.find(tmp_path) == hf.find(str(tmp_path)) == tmp_path


def test_a_name_is_found_in_the_cache_and_read(cache: Path) -> None:
    snapshot = fetched(cache, "someone/small")
    assert hf.find("someone/small") == hf.find("someone/small@main") == snapshot
    assert hf.find(f"someone/small@{COMMIT}") == snapshot
    assert hf.load(hf.find("someone/small"), "cpu").config.d_model == 16


@pytest.mark.parametrize("name", ["someone/else", "someone/small@v2"])
def test_a_name_that_is_not_to_be_had(name: str, cache: Path) -> None:
    fetched(cache, "someone/small")
    with pytest.raises(ValueError, match=f"^checkpoint={name}: no such folder, and .* cache") as e:
        hf.find(name)
    assert len(str(e.value).splitlines()) <= 2


@pytest.mark.parametrize(
    "name", ["nowhere", "./some/where", "/no/where", "a/b/c", "~/model", "a b/c", "a/../b"]
)
def test_what_is_neither_a_folder_nor_a_name(name: str, cache: Path) -> None:
    with pytest.raises(ValueError, match=r"^init_from=X: no such folder, and no name on"):
        hf.find(name, where="init_from=X")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.GatedRepoError, "accept its terms"),
        (errors.RepositoryNotFoundError, "the Hub has no model someone/small"),
        (errors.RevisionNotFoundError, "someone/small has no revision v1"),
        (OSError, "cannot be fetched .OSError"),
    ],
)
def test_what_the_hub_says_is_said_in_a_line(
    error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: object, **__: object) -> str:
        raise error.__new__(error)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ValueError, match=words):
        hf.find("someone/small@v1")


def test_neither_code_nor_pickles_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import filter_repo_objects

    asked: dict[str, list[str]] = {}

    def download(repo: str, **keys: list[str]) -> str:
        asked.update(keys)
        return "folder"

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    hf.find("someone/small")
    files = [
        *("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"),
        *("tokenizer.json", "generation_config.json", "modeling.py", "pytorch_model.bin"),
        *("pytorch_model.bin.index.json", "onnx/model.safetensors", "tf_model.h5"),
        "consolidated.safetensors",
    ]
    kept = filter_repo_objects(
        files,
        allow_patterns=asked["allow_patterns"],
        ignore_patterns=asked["ignore_patterns"],
    )
    assert list(kept) == [
        *("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"),
        *("tokenizer.json", "generation_config.json"),
    ]


def test_what_is_cached_needs_no_network(tmp_path, monkeypatch):
    """Where the first try fails of whatever, the cache is asked by itself."""
    asked = []

    def download(repo, *, local_files_only=False, **_):
        asked.append(local_files_only)
        if not local_files_only:
            raise ConnectionError
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert hf.find("someone/small") == tmp_path and asked == [False, True]
