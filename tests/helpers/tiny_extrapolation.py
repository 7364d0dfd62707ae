"""A tiny model, a document and their measurement, for tests of the laboratory."""

import numpy as np
import torch

from evaluation import measure_extrapolation
from model import ScalingConfig, Transformer, TransformerConfig

TRAIN_LENGTH = 16


DOCUMENT = np.random.default_rng(0).integers(0, 64, 1500).astype(np.uint16)


BYTES = np.ones(64, dtype=np.int64)


def tiny(scaling=None, position="rope"):
    """Always the same weights; large ones, so that positions matter without training."""
    torch.manual_seed(0)
    model = Transformer(
        TransformerConfig(
            vocab_size=64,
            n_layers=2,
            d_model=32,
            n_heads=2,
            backend="pytorch",
            position=position,
            scaling=scaling or ScalingConfig(),
        )
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.mul_(5 if "embedding" in name else 15)
    return model


def measure(model, **options):
    return measure_extrapolation(model, [DOCUMENT], BYTES, train_length=TRAIN_LENGTH, **options)
