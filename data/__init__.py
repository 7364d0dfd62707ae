"""Corpora, tokenizers and the Lightning data module; knows nobody but common.

In reading order, a layer a line:

    texts, documents, origin                  a text in blocks; many in one; which one is meant
    stamps, userfiles, textfiles, recordfiles the user's own files
    download, splits, hub, huggingface        what others have
    corpora                                   all of these, by name, for training and validation
    token_ids, subword_*, subwords            from text to ids
    tokenizers, bpe, tokenizer_choice
    cache, known                              what is kept between runs: ids, and facts of texts
    batches, packing, warmup                  which tokens stand in which batch
    tasks, passkey                            windows that hold a task
    rank_batches, loader                      batches made in worker processes
    mixes, settings                           what the keys under `data` must be
    sources, module                           all of it together

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
