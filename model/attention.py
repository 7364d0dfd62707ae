"""Self-attention whose queries and keys are rotated by their position (RoPE).

`forward` is the whole of it: project and rotate, sharpen, cache, attend (`model/cores.py`), project
back.

Shapes: B batch, S sequence, T keys (S, or more with a cache), C d_model, H heads of queries,
Hk heads of keys and values, D head_dim, N chosen queries.
"""

from typing import Any

import torch
from torch import Tensor, nn

from kernels import rope_phases, rope_qkv, rotate
from model.by_length import ByLength
from model.cache import LayerCache
from model.capped_core import CappedCore
from model.config import TransformerConfig
from model.cores import Call, Core, PlainCore
from model.frequencies import rope_frequencies
from model.layers import EMBEDDED
from model.norms import HeadNorm, relative_scale
from model.packed_cores import (
    attend_in_documents,
    check_cu_seqlens,
    keys_seen,
    length_read,
    positions_in,
)
from model.phases import WithPhases, follow_parameters
from model.sharpening import ScalableSoftmax, log_n_scaled
from model.window_cores import AlibiCore, WindowCore


class RoPEAttention(WithPhases):
    """Multi-head attention with rotary positions; bidirectional unless `causal`.

    Arguments:
        d_model, n_heads: width, and heads of queries.
        dropout: of the attention weights, while training.
        theta: the base of the rotary frequencies theta^(-2i/d).
        n_kv_heads: heads of keys and values (None: n_heads); fewer are shared by groups (GQA).
        head_dim: elements of one head (None: d_model / n_heads).
        causal: a token attends to itself and to earlier ones.
        qk_norm: normalise queries and keys before the rotation: True (head by head with one
            weight), "heads" (a weight for each head), "width" (over all heads together).
        norm, norm_eps: of qk_norm, "rms" or "layer".
        qkv_bias, out_bias: of the projections.
        attention_scale: multiplies q·k; None: 1 / sqrt(head_dim).
        attention_softcap: scores s become cap tanh(s / cap).
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

    `core` attends and may be replaced (`methods/bend.py`); `forward` does the rest. With
    position="rope", `phases` (rotary_dim/2,) are those of the rotary frequencies.
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
        qk_norm: bool | str = False,
        norm: str = "rms",
        norm_eps: float = 1e-6,
        qkv_bias: bool = False,
        out_bias: bool = False,
        attention_scale: float | None = None,
        attention_softcap: float | None = None,
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
            norm=norm,
            norm_eps=norm_eps,
            qkv_bias=qkv_bias,
            out_bias=out_bias,
            attention_scale=attention_scale,
            attention_softcap=attention_softcap,
            window=window,
            ssmax=ssmax,
            position=position,
            backend=backend,
            interleaved=interleaved,
            fraction=fraction,
            fused_projection=fused_projection,
        )
        d_model, n_heads = config.d_model, config.n_heads
        self.d_model, self.n_heads, self.n_kv_heads = d_model, n_heads, config.kv_heads
        self.head_dim = config.head_width
        self.dropout, self.causal, self.position = config.dropout, causal, position
        self.window, self.backend = config.window, backend
        self.interleaved = interleaved
        self.fused_projection = fused_projection and not qkv_bias  # its kernel adds none
        self.norm_eps, self.softcap = config.norm_eps, config.attention_softcap
        self.relative_scale = relative_scale(config.attention_scale, self.head_dim)
        self.score_train_length: int | None = None

        q_width, kv_width = n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        self.qkv = nn.Linear(d_model, q_width + 2 * kv_width, bias=qkv_bias)  # in order q, k, v
        self.out = nn.Linear(q_width, d_model, bias=out_bias)
        self.q_norm = HeadNorm(config, n_heads) if qk_norm else None
        self.k_norm = HeadNorm(config, self.n_kv_heads) if qk_norm else None

        self.ssmax = ScalableSoftmax(n_heads) if ssmax else None
        self.core: Core = PlainCore(causal)
        if self.softcap is not None:
            self.core = CappedCore(causal, self.window, self.softcap)
        elif position == "alibi":
            self.core = AlibiCore(causal, self.window, backend)
        elif self.window is not None:
            self.core = WindowCore(causal, self.window, backend)

        if position == "rope":
            inv_freq, self.attention_factor = rope_frequencies(config.rotary_dim, config.theta)
            self.keep_phases(rope_phases(inv_freq))
        self.by_length: ByLength | None = None
        self.register_load_state_dict_post_hook(follow_parameters)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        cache: LayerCache | None = None,
        cu_seqlens: Tensor | None = None,
        max_seqlen: int | None = None,
    ) -> Tensor:
        """Attend within x (B, S, C), and to what `cache` holds; returns (B, S, C).

        `mask`: nonzero where a query may attend to a key: (S, T), (B, S, T), or any shape that
        broadcasts to (B, H, S, T), so a padding mask (B, T) goes in as mask[:, None, None, :].
        Joined with `causal` by AND; a query that may attend to nothing gets zeros.
        `positions`: (S,) or (B, S) integers; None counts on from the cache's length, or from 0.
        `cu_seqlens`: (documents + 1,) integers, for a batch of one packed row: where each document
            begins, and their end. They are read as if each stood alone. `max_seqlen`: none has more
            tokens.
        Raises ValueError for an x or a mask of another shape.
        """
        if not isinstance(x, Tensor) or x.ndim != 3 or x.shape[-1] != self.d_model:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"x: must be (batch, seq_len, {self.d_model}); got {got}")
        if not (mask is None or isinstance(mask, Tensor)):
            raise ValueError(f"mask: must be a tensor or None; got {type(mask).__name__}")
        if cu_seqlens is not None:
            return self._packed(x, cu_seqlens, max_seqlen, mask, positions, cache)
        past = 0 if cache is None else cache.length
        at = positions
        if past and positions is None:
            at = torch.arange(past, past + x.shape[1], device=x.device)
        q, k, v = self._project(x, at, past + x.shape[1])
        q = self._sharpen(q, at, past, mask)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, T, Hk, D)
        dropout = self.dropout if self.training else 0.0
        y = self.core(q, k, v, Call(mask, positions, cache, dropout))  # (B, S, H, D)
        return self.out(y.flatten(-2))

    def _packed(
        self, x: Tensor, cu_seqlens: Tensor, max_seqlen: int | None, *others: object
    ) -> Tensor:
        """`forward` of a packed row (1, T, C), which takes none of the other arguments."""
        most = check_cu_seqlens(cu_seqlens, max_seqlen, x)
        if any(given is not None for given in others):
            raise ValueError("cu_seqlens: are given without mask, positions and cache")
        length = length_read(cu_seqlens, most, self.by_length)
        q, k, v = self._project(x, None, length, cu_seqlens)
        q = self._sharpen(q, positions_in(cu_seqlens, x.shape[1]), 0, None, cu_seqlens)
        dropout = self.dropout if self.training else 0.0
        y = attend_in_documents(self.core, q, k, v, cu_seqlens, most, dropout)  # (1, T, H, D)
        return self.out(y.flatten(-2))

    def _project(
        self, x: Tensor, positions: Tensor | None, length: int, cu_seqlens: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, S, H, D), k and v (B, S, Hk, D), normalised, and rotated if the core does not.

        `length`: tokens so far, with those in the cache.
        """
        if self.position != "rope" or self.core.rotates:
            return self._heads(x)
        phases, attention_factor = self._frequencies(length)
        rotation: dict[str, Any] = {
            "positions": positions,
            "cu_seqlens": cu_seqlens,
            "phases": phases,
            "interleaved": self.interleaved,
            "attention_factor": attention_factor,
            "backend": self.backend,
        }
        if self.q_norm is not None and not self.q_norm.fuses:
            q, k, v = self._heads(x)
            return *rotate(q, k, **rotation), v
        return rope_qkv(
            x if self.fused_projection else self.qkv(x),
            self.n_heads,
            self.n_kv_heads,
            q_norm=None if self.q_norm is None else self.q_norm.weight,
            k_norm=None if self.k_norm is None else self.k_norm.weight,
            eps=self.norm_eps,
            weight=self.qkv.weight if self.fused_projection else None,
            **rotation,
        )

    def _frequencies(self, length: int) -> tuple[Tensor, float]:
        """Phases and attention factor for so many tokens."""
        if self.by_length is None or length <= self.by_length.train_length:
            return self.phases, self.attention_factor
        return self.by_length.beyond(length, self.phases.device)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, S, H, D), k and v (B, S, Hk, D), normalised but not rotated."""
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # (B, S, H + 2 Hk, D)
        q, k, v = heads.split((self.n_heads, self.n_kv_heads, self.n_kv_heads), dim=2)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        return q, k, v

    def _sharpen(
        self,
        q: Tensor,
        positions: Tensor | None,
        past: int,
        mask: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> Tensor:
        """q (B, S, H, D) with the layer's own scale, and scores that grow with the keys seen."""
        if self.relative_scale != 1:
            q = q * self.relative_scale
        if self.score_train_length is not None:
            q = log_n_scaled(q, positions, self.score_train_length)
        if self.ssmax is not None and cu_seqlens is not None:
            q = self.ssmax.scaled(q, keys_seen(cu_seqlens, q.shape[1], self.causal)[:, None])
        elif self.ssmax is not None:
            q = self.ssmax(q, past, past + q.shape[1], self.causal, mask)
        return q

    @torch.no_grad()
    def weights(self, x: Tensor, rows: Tensor, positions: Tensor | None = None) -> Tensor:
        """The weights of the queries `rows` (N,) over all keys, when the layer reads x (B, S, C).

        They are those of `self(x, positions=positions)` in eval mode, which no fused kernel hands
        out: for a few queries, so that memory grows with S and not with its square. `positions`:
        (S,) integers; None: from 0. Returns (B, H, N, S) float32 (float64 for float64 x): zero
        for keys that a query may not attend to, and each row of sum one.
        """
        q, k, _ = self._project(x, positions, x.shape[1])
        q = self._sharpen(q, positions, past=0)[:, rows]  # (B, N, H, D)
        with torch.autocast(x.device.type, enabled=False):  # it would round the scores to 16 bits
            return self.core.scores(q, k, rows, positions).softmax(dim=-1)

    def new_cache(self, batch_size: int, max_length: int) -> LayerCache:
        """An empty cache for `max_length` tokens, on the layer's device and in its dtype."""
        weight, shape = self.qkv.weight, (batch_size, max_length, self.n_kv_heads, self.head_dim)
        return LayerCache(*shape, dtype=weight.dtype, device=weight.device)

    def set_phases(
        self, phases: Tensor, attention_factor: float, by_length: ByLength | None = None
    ) -> None:
        """Replace the rotary frequencies, in place: `rope_phases(inv_freq)`, (rotary_dim/2,).

        `by_length`: what takes their place where more tokens are read than its `train_length`.
        """
        self.keep_phases(phases)
        self.attention_factor, self.by_length = attention_factor, by_length

    def set_score_scaling(self, train_length: int | None) -> None:
        """Scale scores with log n from now on (`log_n_scaled`); None: as trained.

        A window stays as it is: a query there sees no more keys than it did in training.
        Raises ValueError where attention is not causal: n is counted from a query's position.
        """
        if train_length is not None and not self.causal:
            raise ValueError(
                f"train_length={train_length}: is for causal attention alone; make it causal=True"
            )
        self.score_train_length = train_length if self.window is None else None
