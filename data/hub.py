"""Data sets of the Hugging Face Hub: streamed once, into Parquet files of the cache folder.

    huggingface/<key>/train.parquet, validation.parquet, origin.json

The key hangs on the data set's revision and on what is read of it. `origin.json` is written last:
where it is, with the others, these are whole, and nothing is asked of the Hub but which revision is
its newest.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from common.rules import shown
from common.terminal import say
from data.cache import cache_folder, note, noted, write_cached
from data.origin import Origin
from data.progress import OnProgress
from data.recordfiles import TEXT_KEY, no_such_field, text_problem
from data.splits import bound, chosen_splits, library, rows
from data.texts import BLOCK

VERSION = 1  # to be raised when the same data set is to be read in another way
COMMIT = re.compile(r"[0-9a-f]{40}")


def pinned(origin: Origin) -> Origin:
    """The origin with the revision that is its newest now, `owner/name@commit`.

    Where the Hub cannot be reached, it is the one that was the newest when it last could.

    Raises:
        ValueError: no such data set, or none known and no way to the Hub.
    """
    name, _, revision = str(origin.path).partition("@")
    if COMMIT.fullmatch(revision):
        return origin
    known = _folder() / f"{_digest(origin.path)}.json"
    try:
        commit = _commit(name, revision or None)
        note(known, commit)
    except ConnectionError as error:
        commit = noted(known)
        if not isinstance(commit, str):
            raise ValueError(
                f"data.path={origin.path}: the Hugging Face Hub cannot be reached "
                f"({shown(str(error))}),\nand nothing of this data set is in the cache; connect "
                "once, or give the folder of a data set on this machine"
            ) from error
        say(f"data.path={origin.path}: the Hub cannot be reached; taken as it was, @{commit[:12]}")
    return replace(origin, path=f"{name}@{commit}")


def hub_files(origin: Origin, on_progress: OnProgress) -> dict[str, Path]:
    """The Parquet files of a `pinned` data set, by split; made where they are not there yet."""
    folder = _folder() / _digest([VERSION, asdict(origin)])
    splits = noted(folder / "origin.json")
    if splits is None or not all((folder / f"{split}.parquet").is_file() for split in splits):
        splits = _streamed(origin, folder, on_progress)
        note(folder / "origin.json", splits)
    return {split: folder / f"{split}.parquet" for split in splits}


def _commit(name: str, revision: str | None) -> str:
    """The commit of a data set's revision. ValueError if there is none, ConnectionError offline."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import (
            HFValidationError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise ValueError("data.corpus=huggingface: pip install '.[hf]'") from error
    try:
        return str(HfApi().dataset_info(name, revision=revision, timeout=20).sha)
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ValueError(
            f"data.path={name}{f'@{revision}' if revision else ''}: no such folder here, and no "
            "such data set on the Hugging Face Hub, or none that you may read; "
            "give owner/name, e.g. data.path=roneneldan/TinyStories"
        ) from error
    except Exception as error:  # of the network, by whatever library it is asked with
        raise ConnectionError(" ".join(str(error).split()) or type(error).__name__) from error


def _streamed(origin: Origin, folder: Path, on_progress: OnProgress) -> list[str]:
    """Write the splits of a data set into `folder`; their names here."""
    name, _, commit = str(origin.path).partition("@")
    with library(origin) as datasets:
        found = datasets.load_dataset(name, origin.name, revision=commit, streaming=True)
    splits = chosen_splits(found, origin)
    _check_room(origin, [found[own] for own in splits.values()])
    for split, own in splits.items():
        what, most = f"Streaming {own} of {name}", bound(origin, split)
        say(f"{what} into {folder}")
        total = most or _size(found[own], "num_examples")
        texts = _watched(_texts(origin, found[own], most), what, total, on_progress)
        _write(texts, folder / f"{split}.parquet")
    return list(splits)


def _check_room(origin: Origin, found: list[Any]) -> None:
    """ValueError where the whole of a data set, as far as it says its size, has no room."""
    size = sum(_size(one, "num_bytes") for one in found)
    folder = next(one for one in (_folder(), *_folder().parents) if one.exists())
    free = shutil.disk_usage(folder).free
    if origin.documents is None and size > free:
        raise ValueError(
            f"data.documents=null: {origin.path} has {size / 1e9:,.1f} GB, and {folder} "
            f"{free / 1e9:,.1f} GB of room; take a part of it, e.g. data.documents=100000"
        )


def _size(found: Any, what: str) -> int:
    """`num_bytes` or `num_examples` of a split that is streamed; 0 where it does not say so."""
    known = (found.info.splits or {}).get(str(found.split))
    return getattr(known, what, None) or 0


def _texts(origin: Origin, found: Any, most: int | None) -> Iterator[str]:
    """The texts of at most so many records that are streamed, those without any left out."""
    for number, record in enumerate(islice(rows(origin, found), most), 1):
        if origin.text_key not in record:
            names = [name for name, value in record.items() if isinstance(value, str)]
            no_such_field(origin.text_key, record, names, str(origin.path))
        value = record[origin.text_key]
        if problem := text_problem(value):
            raise ValueError(
                f"data.text_key={origin.text_key}: record {number} of {origin.path} {problem}"
            )
        if value:
            yield value


def _watched(texts: Iterator[str], what: str, total: int, on_progress: OnProgress) -> Iterator[str]:
    """The texts; `on_progress` is told of them where their number is known."""
    for number, text in enumerate(texts, 1):
        yield text
        if total:
            on_progress(what, number, total)


def _write(texts: Iterator[str], path: Path) -> None:
    """Write texts as the one column of a Parquet file, a few megabytes at a time."""
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([(TEXT_KEY, pyarrow.large_string())])
    with (
        write_cached(path) as file,
        parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        part, size = list[str](), 0
        for text in texts:
            part.append(text)
            size += len(text)
            if size >= BLOCK:
                writer.write_table(pyarrow.table({TEXT_KEY: part}, schema))
                part, size = [], 0
        writer.write_table(pyarrow.table({TEXT_KEY: part}, schema))


def _folder() -> Path:
    return cache_folder() / "huggingface"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
