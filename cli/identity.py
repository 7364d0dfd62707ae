"""What an evaluation measures of what: the first line of its `cells.jsonl`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import Settings
from evaluation.passages import passages_for_longest


def identity(
    checkpoints: Sequence[dict[str, Any]],
    settings: Settings,
    documents: Sequence[np.ndarray],
    source: dict[str, Any],
    precision: str,
) -> dict[str, Any]:
    """What a finished cell depends on, plain data.

    Methods, measures and lengths may be added as long as the passages stay, which are cut to the
    longest length that the text allows; and smaller batches may be taken for what did not fit in
    memory. `checkpoints`: plain data with the `sha256` of each. `source`: what the text is called
    (`corpus`, `split`); its tokens are known by their digest.
    """
    passages, _ = passages_for_longest(documents, settings.lengths, settings.passages)
    digest = hashlib.sha256()
    for document in documents:
        digest.update(len(document).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(document, dtype="<u4").tobytes())
    return {
        "checkpoints": list(checkpoints),
        "train_length": settings.train_length,
        "longest length": passages.shape[1] - 1,
        "passages": settings.passages,
        "target_tokens": settings.target_tokens,
        "trials": settings.trials,
        "corpus": source["corpus"],
        "split": source["split"],
        "text": digest.hexdigest(),
        "precision": precision,
    }


def sha256(path: Path) -> str:
    """The digest of a checkpoint: of a file, or of a folder's config.json, its tokenizer and all
    its weights.

    The tokenizer says what each context begins with, which no digest of the text tells. All of
    them are read, some seconds for every ten gigabytes: two models that were trained on
    from one may differ in a few weights alone.
    """
    if not path.is_dir():
        return _of_file(path)
    found = [*path.glob("tokenizer.json"), *path.glob("*.safetensors")]
    files = [path / "config.json", *sorted(found)]
    return hashlib.sha256("".join(map(_of_file, files)).encode()).hexdigest()


def _of_file(path: Path) -> str:
    """The digest of a file, read in blocks."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
