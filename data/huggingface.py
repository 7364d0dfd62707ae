"""Data sets that the library `datasets` reads: a folder, a saved one, or one of the Hub.

What lies on this machine is mapped into memory, and what lies on the Hub is streamed once (see
`data.hub`). No code of a data set is run.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from common.terminal import say
from data.cache import cache_folder
from data.documents import Read, share_out, whole
from data.hub import hub_files, pinned
from data.origin import Origin
from data.progress import OnProgress
from data.recordfiles import ROWS, TEXT_KEY, RecordFile, check_column, text_problem
from data.splits import MISSING, TRAIN, bound, chosen_splits, library, rows
from data.texts import Text
from data.userfiles import UserFile, untold

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
HUB_PAGE = re.compile(r"https?://huggingface\.co/datasets/([\w.-]+/[\w.-]+).*")
SAVED = ("state.json", "dataset_dict.json")  # one of them is in what `save_to_disk` has written


def path_problems(path: Any) -> list[str]:
    """A line if `data.path` is neither a folder nor may be a name of the Hub; or no library."""
    if path is None:
        return [
            "data.path=null: data.corpus=huggingface needs a data set, a folder or a name of the "
            "Hub, e.g. data=huggingface data.path=roneneldan/TinyStories"
        ]
    if page := HUB_PAGE.fullmatch(str(path)):
        return [
            f"data.path={path}: must be a name of the Hub, not its page; try data.path={page[1]}"
        ]
    if os.path.isfile(str(path)):
        return [f"data.path={path}: is a file; use data=text data.path={path}"]
    if not os.path.isdir(str(path)) and not HUB_NAME.fullmatch(str(path)):
        return [
            f"data.path={path}: no such folder, seen from {Path.cwd()}, and no name of the Hub; "
            "give a folder, or owner/name, e.g. data.path=roneneldan/TinyStories"
        ]
    return [] if find_spec("datasets") else [MISSING]


def located(origin: Origin) -> Origin:
    """A data set with a path that leads to the same text from anywhere and at any time.

    Any other origin is left as it is.
    """
    if origin.corpus != "huggingface":
        return origin
    if not os.path.isdir(str(origin.path)):
        return pinned(origin)
    return replace(origin, path=str(Path(str(origin.path)).absolute()))


def dataset_files(origin: Origin, on_progress: OnProgress) -> dict[str, UserFile]:
    """The files that a `located` data set is read from, by name; those of the Hub are made."""
    if not os.path.isdir(str(origin.path)):
        return {split: RecordFile(path) for split, path in hub_files(origin, on_progress).items()}
    folder = Path(str(origin.path))
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {name.as_posix(): UserFile(path) for name, path in sorted(files.items())}


def dataset_texts(origin: Origin, on_progress: OnProgress) -> dict[str, list[Text]]:
    """A `located` data set: with its own validation split where it has one, else shared out.

    Raises:
        ValueError: nothing that `datasets` can read, no such split, or a field that is no text.
    """
    if os.path.isdir(str(origin.path)):
        reads = _local(origin)
    else:
        files = dataset_files(origin, on_progress)
        reads = {split: partial(_of_file, file) for split, file in files.items()}
    if len(reads) == 1:
        return share_out(reads[TRAIN])
    say(f"data.path={origin.path}: validated on its own split for that")
    return {split: whole(read) for split, read in reads.items()}


def _of_file(file: UserFile) -> Iterator[str]:
    assert isinstance(file, RecordFile)
    return file.documents(TEXT_KEY, untold)


def _local(origin: Origin) -> dict[str, Read]:
    """The documents of a folder's splits, mapped into memory."""
    found = _opened(origin)
    splits = chosen_splits(found, origin)
    for own in splits.values():
        where = f"split {own} of {origin.path}"
        check_column(found[own].features.arrow_schema, origin.text_key, where)
    return {
        split: partial(_documents, origin, found[own], bound(origin, split))
        for split, own in splits.items()
    }


def _opened(origin: Origin) -> dict[str, Any]:
    """The splits of a folder: as it was saved, or of files that become Arrow in the cache."""
    folder = str(origin.path)
    saved = any(os.path.exists(os.path.join(folder, name)) for name in SAVED)
    if saved and origin.name is not None:
        raise ValueError(
            f"data.name={origin.name}: a saved data set has no configurations; leave it out"
        )
    with library(origin) as datasets:
        if saved:
            found = datasets.load_from_disk(folder)
        else:
            cache = str(cache_folder() / "huggingface" / "datasets")
            found = datasets.load_dataset(folder, origin.name, cache_dir=cache)
    return dict(found) if isinstance(found, dict) else {str(found.split or TRAIN): found}


def _documents(origin: Origin, dataset: Any, most: int | None) -> Iterator[str]:
    """The texts of at most so many records, those without any left out."""
    batches = dataset.select_columns([origin.text_key]).with_format("arrow").iter(ROWS)
    values = (value for batch in rows(origin, batches) for value in batch.column(0).to_pylist())
    for number, value in enumerate(islice(values, most), 1):
        if problem := text_problem(value):
            raise ValueError(
                f"data.text_key={origin.text_key}: record {number} of {origin.path} {problem}"
            )
        if value:
            yield value
