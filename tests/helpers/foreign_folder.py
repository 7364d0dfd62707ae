"""A folder as people download it: a tiny random Llama with a tokenizer of subwords.

It is written with this project's own export, which needs no transformers: importing that takes
seconds. `tests/hf` holds the two against each other.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from data.subwords import SubwordTokenizer
from hf.holding import hold
from hf.writing import write
from model import Transformer, TransformerConfig

LENGTH = 32  # its max_position_embeddings
SAMPLING: dict[str, Any] = {"temperature": 1.0, "top_k": None}
TEXT = (
    "The key of the candle is here. What is the key of the mountain? Remember: five fine words.",
    "line zero: one two three four five six seven eight nine and 0123456789",
)


def trained_tokenizer(
    texts: Iterable[str] = TEXT, vocab_size: int = 320, beginning: bool = True
) -> SubwordTokenizer:
    """BPE over bytes as of Llama 3: words with the space before them, <s> before every text."""
    import tokenizers
    from tokenizers import decoders, pre_tokenizers, processors, trainers

    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    if beginning:
        pair = ("<s>", made.token_to_id("<s>"))
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[pair])
    return SubwordTokenizer(made.to_str(), "</s>")


@cache
def _tokenizer() -> SubwordTokenizer:
    return trained_tokenizer()


def write_llama(folder: Path, seed: int = 0, dtype: str = "float32", **fields: Any) -> Path:
    """A random Llama, of two small layers; its vocabulary is larger than its tokenizer's."""
    halves = {"n_kv_heads": 2, "interleaved": False, "norm_eps": 1e-5}
    return write_model(folder, seed, dtype, "llama", **(halves | fields))


def write_model(
    folder: Path,
    seed: int = 0,
    dtype: str = "float32",
    family: str | None = None,
    **fields: Any,
) -> Path:
    """A random model in the first family that holds it, or in `family`."""
    tokenizer = _tokenizer()
    shape: dict[str, Any] = {"vocab_size": tokenizer.vocab_size + 8, "n_layers": 2, "d_model": 32}
    shape |= {"n_heads": 4, "mlp_hidden": 48, "train_length": LENGTH}
    torch.manual_seed(seed)
    config = TransformerConfig(**(shape | fields))
    folder.mkdir(parents=True)
    held = hold(config, family, "a test's model")
    write(folder, Transformer(config), tokenizer, held, dtype, SAMPLING)
    return folder
