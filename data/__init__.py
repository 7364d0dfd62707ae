"""Corpora, tokenizers and the Lightning data module; knows nobody but common.

`TextDataModule` is imported when it is first asked for: it needs torch and lightning, which take
seconds, and everything else here is done without them.
"""

from typing import TYPE_CHECKING

from common.lazy import importing
from data.corpora import CORPORA, Corpus, load_corpus
from data.subwords import SubwordTokenizer
from data.texts import SEPARATOR, Text
from data.tokenizers import (
    TOKENIZERS,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    build_tokenizer,
    encode_whole,
    tokenizer_from_state,
)

if TYPE_CHECKING:
    from data.module import TextDataModule

__all__ = [
    "CORPORA",
    "SEPARATOR",
    "TOKENIZERS",
    "ByteTokenizer",
    "CharTokenizer",
    "Corpus",
    "SubwordTokenizer",
    "Text",
    "TextDataModule",
    "Tokenizer",
    "build_tokenizer",
    "encode_whole",
    "load_corpus",
    "tokenizer_from_state",
]


__getattr__ = importing(__name__, {"data.module": ["TextDataModule"]})
