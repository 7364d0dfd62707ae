"""Self-attention whose queries and keys are rotated by their position (RoPE).

Shapes: B batch, S sequence, T keys (S, or more with a cache), H heads of queries, Hk heads of keys
and values, D head_dim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import rope_phases, rope_qkv, rotate
from methods.maps import Remap, mean_of_turns
from model.cache import LayerCache
from model.config import TransformerConfig
from model.frequencies import rope_frequencies
from model.fused_attention import can_fuse, window_attention
from model.layers import EMBEDDED
from model.positions import alibi_bias, alibi_slopes
from model.score_scaling import log_n_scaled
from model.scores import Bias, Rules, attend_in_blocks, broadcastable, causal_mask
from model.sharpening import ScalableSoftmax

NORM_EPS = 1e-6  # nn.RMSNorm's own default follows the dtype: 0.8 % in bfloat16


class RoPEAttention(nn.Module):
    """Multi-head attention with rotary positions; bidirectional unless `causal`.

    Arguments:
        d_model, n_heads: width, and heads of queries.
        dropout: of the attention weights, while training.
        theta: the base of the rotary frequencies theta^(-2i/d).
        n_kv_heads: heads of keys and values (None: n_heads); fewer are shared by groups (GQA).
        head_dim: elements of one head (None: d_model / n_heads).
        causal: a token attends to itself and to earlier ones.
        qk_norm: RMS-normalise queries and keys, head by head, before the rotation.
        window: a token sees itself and the window - 1 tokens before it (and as many after it, if
            not causal); None: all.
        ssmax: scores times s ln(n) with n keys and a learned s (`model.sharpening`); not with a
            window.
        position: "rope", "alibi" for a bias on the scores, or "nope" for no positions at all.
        backend: "auto" (Triton on a GPU, PyTorch elsewhere), "triton" or "pytorch".
        interleaved: rotate the pairs (2i, 2i+1); False: (i, i + rotary_dim/2).
        fraction: the share of head_dim that is rotated, the first elements.
        fused_projection: let the GEMM of the projection rotate, where there is a kernel for it
            (`kernels.rope_qkv`); then `self.qkv` is not called, and its hooks neither.

    Raises ValueError, a line for every argument that breaks a rule.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        dropout: float = 0.1,
        theta: float = 10000.0,
        *,
        n_kv_heads: int | None = None,
        head_dim: int | None = None,
        causal: bool = False,
        qk_norm: bool = False,
        window: int | None = None,
        ssmax: bool = False,
        position: str = "rope",
        backend: str = "auto",
        interleaved: bool = True,
        fraction: float = 1.0,
        fused_projection: bool = False,
    ) -> None:
        super().__init__()
        if position in EMBEDDED:
            raise ValueError(
                f"position={position}: is added to the embedding, which attention has not; must "
                "be one of rope, nope, alibi"
            )
        config = TransformerConfig(
            d_model=d_model,
            n_heads=n_heads,
            dropout=dropout,
            theta=theta,
            n_kv_heads=n_kv_heads,
            head_dim=head_dim,
            qk_norm=qk_norm,
            window=window,
            ssmax=ssmax,
            position=position,
            backend=backend,
            interleaved=interleaved,
            fraction=fraction,
            fused_projection=fused_projection,
        )
        self.d_model, self.n_heads, self.n_kv_heads = d_model, n_heads, config.kv_heads
        self.head_dim = config.head_width
        self.dropout, self.causal, self.position = dropout, causal, position
        self.window = window
        self.backend, self.interleaved = backend, interleaved
        self.fused_projection = fused_projection
        self.score_train_length: int | None = None
        self.remap: Remap | None = None

        q_width, kv_width = n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        self.qkv = nn.Linear(d_model, q_width + 2 * kv_width, bias=False)  # in the order q, k, v
        self.out = nn.Linear(q_width, d_model, bias=False)
        self.q_norm = nn.RMSNorm(self.head_dim, eps=NORM_EPS) if qk_norm else None
        self.k_norm = nn.RMSNorm(self.head_dim, eps=NORM_EPS) if qk_norm else None

        self.ssmax = ScalableSoftmax(n_heads) if ssmax else None

        if position == "rope":
            inv_freq, self.attention_factor = rope_frequencies(config.rotary_dim, theta)
            # Integers, so that no cast of the module touches them; derived, so not in checkpoints.
            self.register_buffer("phases", rope_phases(inv_freq), persistent=False)

    def new_cache(self, batch_size: int, max_length: int) -> LayerCache:
        """An empty cache for `max_length` tokens, on the layer's device and in its dtype."""
        weight, shape = self.qkv.weight, (batch_size, max_length, self.n_kv_heads, self.head_dim)
        return LayerCache(*shape, dtype=weight.dtype, device=weight.device)

    def set_phases(self, phases: Tensor, attention_factor: float) -> None:
        """Replace the rotary frequencies, in place: `rope_phases(inv_freq)`, (rotary_dim/2,)."""
        self.phases.copy_(phases)
        self.attention_factor = attention_factor

    def set_score_scaling(self, train_length: int | None) -> None:
        """Scale scores with log n from now on (`log_n_scaled`); None: as trained.

        A window stays as it is: a query there sees no more keys than it did in training.
        Raises ValueError where attention is not causal: n is counted from a query's position.
        """
        self._check_causal("train_length", train_length)
        self.score_train_length = train_length if self.window is None else None

    def set_remap(self, remap: Remap | None) -> None:
        """Bend relative positions from now on (`methods.maps`); None: as trained.

        For evaluation: attention weights are not dropped. Raises ValueError where attention is not
        causal, and where it rotates nothing.
        """
        self._check_causal("remap", remap)
        if remap is not None and self.position != "rope":
            raise ValueError(
                f"remap={remap}: a model with position={self.position} has no relative positions "
                "to bend; use None"
            )
        if remap is not None and self.window is not None:
            raise ValueError(
                f"remap={remap}: a layer with window={self.window} sees none of the distances that "
                "are bent; use None"
            )
        self.remap = remap

    def _check_causal(self, key: str, value: object) -> None:
        if value is not None and not self.causal:
            raise ValueError(f"{key}={value}: is for causal attention alone; make it causal=True")

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Attend within x (B, S, d_model), and to what `cache` holds; returns (B, S, d_model).

        `mask`: nonzero where a query may attend to a key: (S, T), (B, S, T), or any shape that
        broadcasts to (B, H, S, T), so a padding mask (B, T) goes in as mask[:, None, None, :].
        Joined with `causal` by AND; a query that may attend to nothing gets zeros.
        `positions`: (S,) or (B, S) integers; None counts on from the cache's length, or from 0.
        With a remap a query attends causally to tokens counted from 0, and to no mask; the cache
        then holds keys that are not rotated.
        Raises ValueError for an x or a mask of another shape.
        """
        if x.ndim != 3 or x.shape[-1] != self.d_model:
            raise ValueError(f"x: must be (batch, seq_len, {self.d_model}); got {tuple(x.shape)}")
        if self.remap is not None and (positions is not None or mask is not None):
            raise ValueError("positions, mask: a remap counts tokens itself; leave them out")
        past = 0 if cache is None else cache.length
        counted = positions is None and (cache is None or cache.positions is None)
        stored = positions if self.position == "alibi" else None
        if past and positions is None:
            positions = torch.arange(past, past + x.shape[1], device=x.device)

        q, k, v = self._project(x, positions) if self.remap is None else self._heads(x)
        if self.score_train_length is not None:
            q = log_n_scaled(q, positions, self.score_train_length)
        if cache is not None:
            k, v = cache.append(k, v, stored)
        if self.ssmax is not None:
            q = self.ssmax(q, past, k.shape[1], self.causal)
        if self.remap is not None:
            from methods.bend import remapped_attention

            fused = self._fuses(q, k, v)
            y = remapped_attention(q, k, v, self.remap, self.rotated, past=past, fused=fused)
            return self.out(y.flatten(-2))
        windowed = self.window is not None and k.shape[1] > self.window
        alibi = self.position == "alibi"
        drops = self.training and self.dropout > 0
        # What the kernel knows: no mask, no dropout, positions that count on.
        plain = self.causal and mask is None and not drops and (counted or not alibi)
        if (windowed or alibi) and plain and self._fuses(q, k, v):
            slopes = alibi_slopes(self.n_heads, q.device) if alibi else None
            y = window_attention(q, k, v, self.window, past=past, slopes=slopes)  # (B, S, H, D)
            return self.out(y.flatten(-2))
        q, k, v = (heads.transpose(1, 2) for heads in (q, k, v))  # (B, H, S, D), (B, Hk, T, D)
        if windowed or alibi:
            bias = self._alibi(q, positions, cache) if alibi else None
            y = self._attend_in_blocks(q, k, v, mask, past, bias)
        else:
            y = self._attend(q, k, v, mask, past)
        return self.out(y.transpose(1, 2).flatten(-2))

    def _project(self, x: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, S, H, D), k and v (B, S, Hk, D), normalised and rotated."""
        if self.position == "rope":
            fused = self.fused_projection
            return rope_qkv(
                x if fused else self.qkv(x),
                self.n_heads,
                self.n_kv_heads,
                positions=positions,
                phases=self.phases,
                interleaved=self.interleaved,
                attention_factor=self.attention_factor,
                q_norm=None if self.q_norm is None else self.q_norm.weight,
                k_norm=None if self.k_norm is None else self.k_norm.weight,
                eps=NORM_EPS,
                backend=self.backend,
                weight=self.qkv.weight if fused else None,
            )
        return self._heads(x)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, S, H, D), k and v (B, S, Hk, D), normalised but not rotated."""
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # (B, S, H + 2 Hk, D)
        q, k, v = heads.split((self.n_heads, self.n_kv_heads, self.n_kv_heads), dim=2)
        if self.q_norm is not None:
            q, k = _normalised(q, self.q_norm), _normalised(k, self.k_norm)
        return q, k, v

    def rotated(self, x: Tensor, positions: Tensor, leak: int = 1, spread: int = 1) -> Tensor:
        """x (B, S, H, D) rotated to `positions` (S,), every frequency divided by `leak`.

        With `spread`, the mean of so many rotations around these, a token apart whatever the leak.
        """
        # Fixed point: exact to its last bit.
        phases = self.phases if leak == 1 else (self.phases + leak // 2) // leak
        rotated, _ = rotate(
            x,
            x[:, :, :1],  # the rotation takes queries and keys; here there is one of them
            positions=positions,
            phases=phases,
            interleaved=self.interleaved,
            attention_factor=self.attention_factor,
            backend=self.backend,
        )
        if spread == 1:
            return rotated
        faded = mean_of_turns(self.phases, spread, torch.promote_types(x.dtype, torch.float32))
        faded = faded.repeat_interleave(2) if self.interleaved else faded.repeat(2)
        tail = faded.new_ones(x.shape[-1] - len(faded))  # what is not rotated
        return (rotated * torch.cat((faded, tail))).to(x.dtype)

    def _fuses(self, q: Tensor, k: Tensor, v: Tensor) -> bool:
        """Whether the fused kernel attends, not PyTorch, which the user may have asked for."""
        return self.backend != "pytorch" and can_fuse(q, k, v)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, past: int) -> Tensor:
        """Scaled dot-product attention of q (B, H, S, D) over k, v (B, Hk, T, D): (B, H, S, D)."""
        allowed = None if mask is None else broadcastable(mask, q.shape[:3] + k.shape[2:3])
        # A query after which no key comes needs no causal mask, and SDPA's own one is quicker.
        needs_causal = self.causal and q.shape[2] > 1
        if needs_causal and (past or allowed is not None):
            causal = causal_mask(q.shape[2], past, q.device)
            allowed = causal if allowed is None else allowed & causal
        attends = None
        if mask is not None:
            attends = allowed.any(-1, keepdim=True)  # False: a query that may attend to nothing
            allowed = allowed | ~attends  # softmax over nothing is NaN, and so is its gradient
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=allowed,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=needs_causal and allowed is None,
            enable_gqa=self.n_kv_heads != self.n_heads,
        )
        return y if attends is None else y.masked_fill(~attends, 0.0)

    def _attend_in_blocks(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, past: int, bias: Bias | None
    ) -> Tensor:
        """As `_attend`, where the scores need a bias or a window."""
        allowed = None if mask is None else broadcastable(mask, q.shape[:3] + k.shape[2:3])
        rules = Rules(self.causal, past, self.window, allowed)
        return attend_in_blocks(q, k, v, rules, bias, self.dropout if self.training else 0.0)

    def _alibi(self, q: Tensor, positions: Tensor | None, cache: LayerCache | None) -> Bias:
        """ALiBi's bias, by the positions of the queries and of all keys."""
        if positions is None:
            positions = torch.arange(q.shape[2], device=q.device)
        keys_at = positions if cache is None else cache.key_positions()
        slopes = alibi_slopes(self.n_heads, q.device)
        return lambda queries, keys: alibi_bias(slopes, positions[..., queries], keys_at[..., keys])


def _normalised(x: Tensor, norm: nn.RMSNorm) -> Tensor:
    """The norm in x's dtype: under autocast its float32 weight would miss the fused kernel."""
    return F.rms_norm(x, norm.normalized_shape, norm.weight.type_as(x), norm.eps).type_as(x)
