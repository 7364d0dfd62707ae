"""Corpora, tokenizers and the Lightning data module; knows nobody else in the house.

`TextDataModule` is imported when it is first asked for: it needs torch and lightning, which take
seconds, and everything else here is done without them.
"""

from typing import Any

from data.corpora import CORPORA, SEPARATOR, Corpus, load_corpus
from data.tokenizers import (
    TOKENIZERS,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    build_tokenizer,
    tokenizer_from_state,
)

__all__ = [
    "CORPORA",
    "SEPARATOR",
    "TOKENIZERS",
    "ByteTokenizer",
    "CharTokenizer",
    "Corpus",
    "TextDataModule",
    "Tokenizer",
    "build_tokenizer",
    "load_corpus",
    "tokenizer_from_state",
]


def __getattr__(name: str) -> Any:
    """Import `TextDataModule` on first use (PEP 562)."""
    if name == "TextDataModule":
        from data.module import TextDataModule

        return TextDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
