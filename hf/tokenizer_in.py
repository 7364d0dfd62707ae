"""The tokenizer of a folder: its tokenizer.json."""

from pathlib import Path

from data import SubwordTokenizer, Tokenizer


def load_tokenizer(directory: str | Path, where: str | None = None) -> Tokenizer:
    """The tokenizer of a folder; it may have fewer ids than the model has rows.

    Raises ValueError, in which `where` stands before the colon, where there is none that can be
    read.
    """
    return SubwordTokenizer.from_file(directory, where or f"checkpoint={directory}")
