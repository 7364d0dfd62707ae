"""A block of the transformer: attention and an MLP, and where their norms stand.

Shapes: B batch, S sequence, C d_model.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import RoPEAttention
from model.cache import LayerCache
from model.config import GATED, TransformerConfig
from model.layers import Layer
from model.norms import make_norm
from model.registry import attention_of


class MLP(nn.Module):
    """SwiGLU and GeGLU (arXiv:2002.05202), squared ReLU (arXiv:2109.08668), or GELU."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.kind = config.mlp
        hidden, bias = config.mlp_width, config.mlp_bias
        up_width = 2 * hidden if self.kind in GATED else hidden  # gate and value in one matrix
        self.up = nn.Linear(config.d_model, up_width, bias=bias)
        self.down = nn.Linear(hidden, config.d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, C) -> (B, S, C), each token by itself."""
        x = self.up(x)
        if self.kind in GATED:
            gate, value = x.chunk(2, dim=-1)  # (B, S, hidden) each
            is_swiglu = self.kind == "swiglu"
            x = (F.silu(gate) if is_swiglu else F.gelu(gate, approximate="tanh")) * value
        elif self.kind == "relu2":
            x = F.relu(x).square()
        else:
            x = F.gelu(x, approximate="tanh" if self.kind == "gelu-tanh" else "none")
        return self.down(x)


class Block(nn.Module):
    """Attention and MLP, each a branch that is added to the residual stream.

    | `model.block`   | each branch                                             | as in           |
    |-----------------|---------------------------------------------------------|-----------------|
    | pre             | x + branch(norm(x)), one after the other                | GPT-2, Llama    |
    | post            | x + norm(branch(x))                                     | OLMo 2          |
    | sandwich        | x + post_norm(branch(norm(x)))                          | Gemma 2         |
    | parallel        | x + attention(norm(x)) + mlp(another_norm(x))           | GPT-NeoX        |
    | parallel-shared | x + attention(norm(x)) + mlp(norm(x)), the same norm    | GPT-J, Phi      |
    """

    def __init__(self, config: TransformerConfig, layer: Layer) -> None:
        super().__init__()
        self.kind = config.block
        self.attention_norm = make_norm(config)
        self.attention = make_attention(config, layer)
        self.mlp_norm = None if self.kind == "parallel-shared" else make_norm(config)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)
        sandwich = self.kind == "sandwich"
        self.attention_post_norm = make_norm(config) if sandwich else None
        self.mlp_post_norm = make_norm(config) if sandwich else None

    def forward(
        self,
        x: Tensor,
        positions: Tensor | None = None,
        cache: LayerCache | None = None,
        mask: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        max_seqlen: int | None = None,
    ) -> Tensor:
        """(B, S, C) -> (B, S, C); the others as `RoPEAttention.forward` takes them."""
        before = x if self.kind == "post" else self.attention_norm(x)
        attended = self.attention(
            before,
            mask,
            positions=positions,
            cache=cache,
            cu_seqlens=cu_seqlens,
            max_seqlen=max_seqlen,
        )
        if self.kind.startswith("parallel"):
            beside = before if self.mlp_norm is None else self.mlp_norm(x)
            return x + self.dropout(attended) + self.dropout(self.mlp(beside))
        x = x + self.dropout(self._after(attended, self.attention_norm, self.attention_post_norm))
        assert self.mlp_norm is not None
        made = self.mlp(x if self.kind == "post" else self.mlp_norm(x))
        return x + self.dropout(self._after(made, self.mlp_norm, self.mlp_post_norm))

    def _after(self, branch: Tensor, norm: nn.Module, post_norm: nn.Module | None) -> Tensor:
        """What a branch has made, normalised where its norm, or a second one, stands behind it."""
        if self.kind == "post":
            return norm(branch)
        return branch if post_norm is None else post_norm(branch)


def make_attention(config: TransformerConfig, layer: Layer) -> RoPEAttention:
    """The attention of one layer: ordinary, unless an experiment has registered another kind."""
    kind = attention_of(config, layer)
    return kind(
        config.d_model,
        config.n_heads,
        config.dropout,
        config.layer_theta(layer),
        n_kv_heads=config.kv_heads,
        head_dim=config.head_width,
        causal=True,
        qk_norm=config.qk_norm,
        norm=config.norm,
        norm_eps=config.norm_eps,
        qkv_bias=config.qkv_bias,
        out_bias=config.out_bias,
        attention_scale=config.attention_scale,
        attention_softcap=config.attention_softcap,
        window=layer.window,
        ssmax=config.ssmax and layer.window is None,
        position=layer.position,
        backend=config.backend,
        interleaved=config.interleaved,
        fraction=config.fraction,
        fused_projection=config.fused_projection,
    )
