"""What is known of a corpus once it has been read: kept, so that no start reads it again.

The cache folder keeps the facts of every text of the user's own under the names and the stamps of
its files (`data.stamps`). A file that is changed, replaced, renamed or touched has another stamp,
and then the text is read again, as it is where anything of the facts is missing or damaged. Facts
are not kept of files that were written less than two seconds before they were read: the clock of a
file system may be too coarse to tell the next writing from that one.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data.cache import cache_folder, note, noted
from data.corpora import Corpus, origin_files
from data.origin import Origin
from data.progress import OnProgress, silent
from data.textfiles import TextFile
from data.texts import SEPARATOR, joined
from data.tokenizers import CharTokenizer, code_points

# To be raised when the same files, or records, are to be split or read in another way.
VERSION = 1
RECORDS_VERSION = 1
COARSEST_CLOCK = 2 * 10**9  # ns; that of FAT


@dataclass(frozen=True)
class Facts:
    """What a run has to know of a corpus before it can map its tokens."""

    sha256: str  # of the training and validation texts, one after the other
    train: str  # sha256 of each
    validation: str
    validation_documents: int
    characters: str  # all of both splits, in code point order; "" but for a tokenizer of those
    validation_bytes: int = 0  # of UTF-8, less the separators; 0: kept before it was counted


def facts_of(
    origin: Origin,
    tokenizer: str,
    load: Callable[[], Corpus],
    on_progress: OnProgress = silent,
) -> Facts:
    """The facts of the corpus that `load` gives, for a tokenizer of that kind.

    Where they are known of the files that `origin` names (some corpora have none), nothing is
    loaded.

    Raises:
        ValueError: no such files, or what `load` raises.
    """
    files = origin_files(origin, on_progress)
    if not files:
        return measure(load(), tokenizer, on_progress)
    newest = max(file.stamp.mtime_ns for file in files.values())
    settled = newest < time.time_ns() - COARSEST_CLOCK
    names = [[name, str(file.path.absolute()), file.stamp] for name, file in files.items()]
    what: list[object] = [VERSION, tokenizer, names]
    if any(not isinstance(file, TextFile) for file in files.values()):
        what += [RECORDS_VERSION, {**asdict(origin), "path": None}]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
    index = cache_folder() / "texts" / f"{key}.json"
    if (facts := _recall(index)) is not None:
        return facts
    facts = measure(load(), tokenizer, on_progress)
    if settled:
        note(index, {"facts": asdict(facts), "sha256": _digest(asdict(facts))})
    return facts


def measure(corpus: Corpus, tokenizer: str, on_progress: OnProgress = silent) -> Facts:
    """Read a corpus for its facts, for a tokenizer of that kind."""
    whole, splits, separators, size = hashlib.sha256(), {}, 0, 0
    seen = np.zeros(0x110000 if tokenizer == CharTokenizer.name else 0, dtype=bool)
    for split, texts in (("train", corpus.train), ("validation", corpus.validation)):
        digest, separators, size = hashlib.sha256(), 0, 0
        for block in joined(texts, f"Examining the {split} text", on_progress):
            encoded = block.encode("utf-8")
            whole.update(encoded)
            digest.update(encoded)
            separators += block.count(SEPARATOR)
            size += len(encoded)
            if len(seen):
                seen[code_points(block)] = True
        splits[split] = digest.hexdigest()
    characters = "".join(map(chr, np.flatnonzero(seen).tolist()))
    return Facts(
        whole.hexdigest(),
        **splits,
        validation_documents=separators + 1,
        characters=characters,
        validation_bytes=size - separators,
    )


def _recall(index: Path) -> Facts | None:
    """The facts in a file of the cache folder; None where it is missing or damaged."""
    kept = noted(index)
    try:
        return Facts(**kept["facts"]) if kept["sha256"] == _digest(kept["facts"]) else None
    except (TypeError, KeyError):
        return None


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
