"""Models never trained, written as Hugging Face's, and what transformers makes of them."""

import os
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from data import ByteTokenizer, Tokenizer
from hf.holding import Held, hold
from hf.writing import write
from model import Transformer, TransformerConfig

SAMPLING = {"max_new_tokens": 5, "temperature": 0.8, "top_k": None, "top_p": None, "min_p": None}
LENGTH = 16  # of training, it is said


def small(**settings: Any) -> TransformerConfig:
    """A config of a small model with these settings."""
    shape = {"n_layers": 2, "d_model": 32, "n_heads": 4, "n_kv_heads": 2, "mlp_hidden": 48}
    return TransformerConfig(**{**shape, "backend": "pytorch", "train_length": LENGTH, **settings})


def random(config: TransformerConfig) -> Transformer:
    """A model of these shapes in which every weight counts, norms and biases too."""
    torch.manual_seed(0)
    model = Transformer(config).eval()
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return model


def export(
    directory: Path,
    model: Transformer,
    tokenizer: Tokenizer | None = None,
    family: str | None = None,
    dtype: str = "float32",
) -> Held:
    """Write the model into a new directory, as export.py does."""
    directory.mkdir()
    held = hold(model.config, family, "checkpoint=x")
    write(directory, model, tokenizer or ByteTokenizer(), held, dtype, SAMPLING)
    return held


def loaded(directory: Path) -> Any:
    """What AutoModelForCausalLM makes of it, in eval mode; every weight must have been found."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    with mock.patch.dict(os.environ, {"HF_HUB_OFFLINE": "1"}):
        config = AutoConfig.from_pretrained(directory)
        # The default attention of transformers 5.17 leaves the caps of scores out.
        capped = getattr(config, "attn_logit_softcapping", None) is not None
        options = {"attn_implementation": "eager"} if capped else {}
        model, found = AutoModelForCausalLM.from_pretrained(
            directory, output_loading_info=True, **options
        )
    assert not any(found.values()), found
    return model.eval()


@torch.no_grad()
def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """(B, S, V) of a model of either kind."""
    found = model(tokens)
    return found if isinstance(found, torch.Tensor) else found.logits
