"""What is read of a Hugging Face data set, which split of it; its errors in our words."""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from common.rules import among, shown
from data.origin import Origin

TRAIN, VALIDATION = "train", "validation"  # what data sets call them


def chosen_splits(names: Collection[str], origin: Origin) -> dict[str, str]:
    """The data set's own names of what is `train` here, and `validation` if it has one.

    Its own validation split goes with its train split alone; any other split is shared out.

    Raises:
        ValueError: it has no split of that name, or none of them is the one to take.
    """
    wanted = origin.split or (TRAIN if TRAIN in names else next(iter(names), TRAIN))
    if wanted not in names or (origin.split is None and TRAIN not in names and len(names) > 1):
        raise ValueError(
            f"data.split={shown(origin.split)}: must be a split of {origin.path}; "
            f"{among(origin.split, names, 'data.split=')}"
        )
    own = {VALIDATION: VALIDATION} if wanted == TRAIN and VALIDATION in names else {}
    return {TRAIN: wanted, **own}


def bound(origin: Origin, split: str) -> int | None:
    """How many documents of `train` or `validation` are read at most."""
    if origin.documents is None or split == TRAIN:
        return origin.documents
    return max(1, origin.documents // 10)


@contextmanager
def library(origin: Origin) -> Iterator[Any]:
    """The library `datasets`, whose errors are said in one or two lines.

    Raises:
        ValueError: it is not installed, or whatever it has raised.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError(MISSING) from error
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        yield datasets
    except Exception as error:  # of any kind: it reads with half a dozen libraries
        key = "name" if re.search("Config name|BuilderConfig", str(error)) else "path"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"data.{key}={shown(getattr(origin, key))}: {shown(reason)}") from error


def rows(origin: Origin, found: Iterable[Any]) -> Iterator[Any]:
    """What the library gives one by one, its errors said as in `library`."""
    iterator, end = iter(found), object()
    while True:
        with library(origin):
            row = next(iterator, end)
        if row is end:
            return
        yield row


MISSING = "data.corpus=huggingface: needs the library datasets; pip install '.[hf]'"
