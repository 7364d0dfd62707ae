"""What training a Transformer on one token costs."""

from model.config import GATED, TransformerConfig


def matmul_parameters(config: TransformerConfig) -> int:
    """Parameters that multiply every token: all matrices and the head, not the look-up."""
    heads = 2 * config.n_heads + 2 * config.kv_heads  # q and out, k and v
    attention = config.d_model * heads * config.head_width
    mlp = config.d_model * config.mlp_width * (3 if config.mlp in GATED else 2)
    return config.n_layers * (attention + mlp) + config.d_model * config.vocab_size


def flops_per_token(config: TransformerConfig, seq_len: int) -> int:
    """Floating-point operations of one token's forward and backward, at `seq_len` of context.

        6 × matmul parameters + 12 × n_heads × head_dim × (seq_len, or the window, of each layer)

    A multiply and an add are two operations; the backward costs twice the forward. The second
    term is the attention's two products over the whole context, the causal half not taken off:
    PaLM's convention (arXiv:2204.02311, appendix B), which published MFU figures use. Norms,
    activations and the rotation are left out, and so are the other passages of `model.crossbatch`,
    which only a part of the steps and of the batch reads.
    """
    seen = sum(min(layer.window or seq_len, seq_len) for layer in config.layers)
    return 6 * matmul_parameters(config) + 12 * config.n_heads * config.head_width * seen
