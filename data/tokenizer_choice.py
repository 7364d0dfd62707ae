"""What `data.tokenizer` and `data.vocab_size` may be, and the tokenizer that they mean."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from common.rules import Rule, nearest, problems
from common.terminal import say
from data.bpe import DEFAULT_SIZE, VOCAB_SIZE, bpe_of
from data.progress import OnProgress, silent
from data.subwords import SubwordTokenizer
from data.texts import Text
from data.tokenizers import TOKENIZERS, Tokenizer, build_tokenizer

BPE = "bpe"
NAMES = (*TOKENIZERS, BPE)


def _is_tokenizer(value: object) -> bool:
    """Whether it is a name, or reads like a path; what is there is seen when it is read."""
    if not isinstance(value, str) or value in NAMES:
        return isinstance(value, str)
    return os.sep in value or value.endswith(".json") or os.path.exists(value)


RULES = {
    "data.tokenizer": Rule(
        f"one of {', '.join(NAMES)}, or the path of a tokenizer.json or of a folder with one",
        _is_tokenizer,
        lambda value: nearest(value, NAMES) or "byte",
    ),
    "data.vocab_size": VOCAB_SIZE,
}


def tokenizer_problems(settings: Mapping[str, Any]) -> list[str]:
    """A line for each broken rule on the tokenizer, of the group `data`."""
    name, size = settings["tokenizer"], settings.get("vocab_size")
    values = {"data.tokenizer": name, "data.vocab_size": size}
    if (lines := problems(values, RULES)) or size is None or name == BPE:
        return lines
    return [
        f"data.vocab_size={size}: data.tokenizer={name} has a size of its own; leave it out, or "
        "take data.tokenizer=bpe"
    ]


def expected_size(settings: Mapping[str, Any]) -> int:
    """The tokens of a vocabulary, as far as they are known before the text, of any settings."""
    size = settings.get("vocab_size")
    if settings.get("tokenizer") != BPE or not VOCAB_SIZE.holds(size):
        return 256
    return size or DEFAULT_SIZE


def kind_of(name: str) -> str:
    """The name of the tokenizer's class: byte, char or subword."""
    return name if name in TOKENIZERS else SubwordTokenizer.name


def chosen_tokenizer(
    name: str,
    vocab_size: int | None,
    characters: Sequence[str],
    train: Callable[[], Sequence[Text]],
    sha256: str,
    on_progress: OnProgress = silent,
) -> Tokenizer:
    """The tokenizer of a corpus that `data.tokenizer` and `data.vocab_size` mean.

    Args:
        characters: all of the corpus, for a tokenizer of characters.
        train: gives its training text, for one that is trained on that.
        sha256: the training text's.

    Raises:
        ValueError: it cannot be had, or cannot be built on this corpus.
    """
    if name in TOKENIZERS:
        return build_tokenizer(name, characters)
    if name == BPE:
        return bpe_of(train, sha256, vocab_size, on_progress)
    tokenizer = SubwordTokenizer.from_file(name)
    if tokenizer.is_lossy:
        say(
            f"data.tokenizer={name}: gives texts back otherwise than they were (case, spaces or "
            "characters are lost); what is lost is not predicted, so its bits per byte are lower "
            "than those of a tokenizer that keeps all"
        )
    return tokenizer


def mark_of(tokenizer: Tokenizer) -> dict[str, str]:
    """Which tokenizer it is, for a fingerprint: its name, and the sha256 of one that is a file."""
    mark = {"tokenizer": tokenizer.name}
    if isinstance(tokenizer, SubwordTokenizer):
        mark["tokenizer_sha256"] = tokenizer.sha256
    return mark
