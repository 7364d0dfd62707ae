"""A byte-level BPE tokenizer of one's own, trained on a corpus with the `tokenizers` library.

Its tokens are those that GPT-2's are made by: joined from bytes within words, so that any text
has tokens. The same text gives the same tokens. They are kept in the cache folder.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence

from common.rules import Rule, integer, optional
from common.terminal import say
from data.cache import cache_folder, note, noted
from data.progress import OnProgress, silent
from data.subwords import SubwordTokenizer
from data.texts import SEPARATOR as NUL
from data.texts import Text, joined

SEPARATOR = "<|endoftext|>"
DEFAULT_SIZE = 4096
LEAST_SIZE = 257  # the bytes and the separator
VOCAB_SIZE: Rule = optional(integer(LEAST_SIZE, 1_000_000, DEFAULT_SIZE))
MOST_CHARACTERS = 1 << 28  # that are read to find tokens; a minute or two
PIECE = 1 << 16  # characters that the library takes at a time: it holds 256 of them
VERSION = 1  # to be raised when the same text is to give other tokens


def bpe_of(
    train: Callable[[], Sequence[Text]],
    sha256: str,
    vocab_size: int | None = None,
    on_progress: OnProgress = silent,
) -> SubwordTokenizer:
    """The tokenizer of a training text, with at most `vocab_size` tokens (None: 4096).

    Args:
        train: gives the text's documents, where the cache folder has no tokenizer of it.
        sha256: the text's own.
    """
    size = vocab_size or DEFAULT_SIZE
    path = cache_folder() / "tokenizers" / f"bpe-{VERSION}-{size}-{sha256[:32]}.json"
    description = _recall(noted(path))
    if description is None:
        description = train_bpe(train(), size, on_progress)
        note(path, {"tokenizer": description, "sha256": _digest(description)})
    tokenizer = SubwordTokenizer(description, SEPARATOR)
    if tokenizer.vocab_size < size:
        say(f"data.vocab_size={size}: this text gives no more than {tokenizer.vocab_size} tokens")
    return tokenizer


def train_bpe(texts: Sequence[Text], vocab_size: int, on_progress: OnProgress = silent) -> str:
    """The content of a tokenizer.json for these documents.

    Of more than `MOST_CHARACTERS` the beginning of each document is read, the same share of all.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    total = sum(map(len, texts))
    if total > MOST_CHARACTERS:
        say(
            f"data.tokenizer=bpe: its tokens are those of {MOST_CHARACTERS:,} of the {total:,} "
            "characters of the training text, the beginning of each document"
        )
        texts = [text[: len(text) * MOST_CHARACTERS // total] for text in texts]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_pieces(texts, on_progress), trainer)
    return tokenizer.to_str()


def _pieces(texts: Sequence[Text], on_progress: OnProgress) -> Iterator[str]:
    for block in joined(texts, "Counting words for the tokenizer", on_progress):
        for part in block.split(NUL):
            yield from (part[at : at + PIECE] for at in range(0, len(part), PIECE))


def _recall(kept: object) -> str | None:
    """The description that was kept; None where it is missing or damaged."""
    try:
        description, digest = kept["tokenizer"], kept["sha256"]  # type: ignore[index]
        return description if digest == _digest(description) else None
    except (TypeError, KeyError, AttributeError):
        return None


def _digest(description: str) -> str:
    return hashlib.sha256(description.encode()).hexdigest()
