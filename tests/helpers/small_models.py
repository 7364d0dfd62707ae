"""A small model whose attention matters without training, for tests of what bends it."""

import torch

from model import Transformer, TransformerConfig


def small_model(**options: object) -> Transformer:
    """Two layers in float64, in eval mode, with weights so large that positions tell."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "n_layers": 2, "d_model": 32, "n_heads": 4}
    config = TransformerConfig(**{**sizes, "backend": "pytorch", **options})
    built = Transformer(config).double().eval()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return built


def small(**options):
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "n_layers": 2, "d_model": 32, "n_heads": 2, "n_kv_heads": 1}
    net = Transformer(TransformerConfig(**sizes, **options)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return net
