"""A decoder-only transformer: blocks of causal RoPEAttention and an MLP (`model/block.py`).

Shapes: B batch, S sequence, V vocab_size, C d_model.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from common.rules import integer, optional, problems, refuse
from kernels import rope_phases
from model.attention import RoPEAttention
from model.block import Block
from model.by_length import ByLength
from model.cache import KVCache
from model.config import TransformerConfig
from model.frequencies import rope_frequencies
from model.norms import capped, make_norm
from model.packed_cores import check_cu_seqlens, positions_in
from model.phases import WithPhases
from model.positions import LearnedPositions, position_embedding
from model.registry import check_registered, training_positions
from model.scalings import BY_LENGTH
from model.sharpening import TYPICAL_LENGTH, ssmax_start


class Transformer(nn.Module):
    """Token embedding, blocks, final norm, and a head that is the embedding again if tied."""

    def __init__(self, config: TransformerConfig) -> None:
        """Raises ValueError where the config asks for what `import extras` has yet to register."""
        super().__init__()
        check_registered(config)
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding = position_embedding(
            config.position, config.d_model, config.max_length
        )
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in config.layers)
        self.norm = make_norm(config)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=config.head_bias)
        self._tie()
        self.register_load_state_dict_post_hook(_mend_loaded)
        self.init_weights()
        if config.scaling.method != "none":
            self.set_scaling(**config.scaling.arguments())

    def _tie(self) -> None:
        if self.config.tied_head:
            self.head.weight = self.embedding.weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Transformer":
        """What `to`, `to_empty` and their like call: from the meta device it unties the head."""
        super()._apply(fn, recurse)
        self._tie()
        return self

    @torch.no_grad()
    def init_weights(self) -> None:
        """Set every parameter; the only place that does.

        | parameter                  | value                                                |
        |----------------------------|------------------------------------------------------|
        | embedding, tied head,      | normal, 0.02                                         |
        | learned positions          |                                                      |
        | head, untied               | normal, 0.02                                         |
        | attention.qkv, mlp.up      | normal, 0.02                                         |
        | attention.out, mlp.down    | normal, 0.02 / sqrt(2 n_layers): each of the 2       |
        |                            | n_layers branches adds its variance to the residual  |
        |                            | stream (GPT-2)                                       |
        | every norm's weight        | one                                                  |
        | every bias                 | zero                                                 |
        | ssmax                      | 1 / (the mean of ln(n) in training): plain softmax   |
        """
        residual = 0.02 / math.sqrt(2 * self.config.n_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("ssmax.scale"):
                nn.init.constant_(
                    parameter, ssmax_start(self.config.train_length or TYPICAL_LENGTH)
                )
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)
            elif name.endswith("norm.weight"):
                nn.init.ones_(parameter)
            elif name.endswith((".out.weight", ".down.weight")):
                nn.init.normal_(parameter, std=residual)
            else:
                nn.init.normal_(parameter, std=0.02)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        *,
        mask: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        max_seqlen: int | None = None,
        logits_to_keep: int | None = None,
    ) -> Tensor:
        """Logits (B, S, V) of the token after each of `tokens` (B, S) integers.

        `positions`: (S,) or (B, S) integers, negative ones too; None counts from 0, or on from
        what `cache` holds. With a cache, `tokens` are the new ones alone and are added to it.
        `mask` (B, T), T tokens so far with those in the cache: 0 where a token only fills its row
        up, as on the left of a shorter prompt; positions then count the others.
        `cu_seqlens`: (documents + 1,) integers, for `tokens` (1, T) that pack several documents:
        where each begins, and their end (`model/packed_cores.py`). Each is read as if it stood
        alone, its positions counted from 0. `max_seqlen`: no document has more tokens; that makes
        attention on a GPU quicker, which cannot read it from them.
        `logits_to_keep`: of the last so many tokens alone; None: of all.
        Raises ValueError for a mask of another shape, and for a position that position=learned has
        no vector for.
        """
        if not isinstance(tokens, Tensor) or tokens.ndim != 2:
            got = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
            raise ValueError(f"tokens: must be (batch, seq_len); got {got}")
        past = 0 if cache is None else cache.length
        if mask is not None:
            _check_mask(mask, tokens, past)
            if positions is None:
                positions = (mask != 0).cumsum(-1)[:, past:].sub(1).clamp(min=0)  # (B, S)
            mask = mask[:, None, None, :]
        if cu_seqlens is None:
            positions = self._positions(tokens, positions, cache)
        else:
            self._check_packed(tokens, cu_seqlens, max_seqlen, mask, positions, cache)
        x = self.embedding(tokens)  # (B, S, C)
        if self.config.embedding_scale is not None:
            x = x * self.config.embedding_scale
        if self.position_embedding is not None:
            at = positions if cu_seqlens is None else positions_in(cu_seqlens, tokens.shape[1])
            x = self.position_embedding(x, at)
        x = self.dropout(x)
        for i, block in enumerate(self.blocks):
            layer_cache = None if cache is None else cache.layers[i]
            x = block(x, positions, layer_cache, mask, cu_seqlens, max_seqlen)
        assert logits_to_keep is None or logits_to_keep > 0, logits_to_keep
        return self._logits(x if logits_to_keep is None else x[:, -logits_to_keep:])

    def _logits(self, x: Tensor) -> Tensor:
        """(B, S, C) -> (B, S, V)."""
        logits = self.head(self.norm(x))
        if self.config.logit_scale is not None:
            logits = logits * self.config.logit_scale
        return capped(logits, self.config.logit_softcap)

    def _check_packed(
        self, tokens: Tensor, cu_seqlens: Tensor, max_seqlen: int | None, *others: object
    ) -> None:
        """ValueError where the documents of a packed row (1, T) cannot be read."""
        most = check_cu_seqlens(cu_seqlens, max_seqlen, tokens)
        if any(given is not None for given in others):
            raise ValueError("cu_seqlens: are given without mask, positions and cache")
        if self.training and self.config.random_positions is not None:
            raise ValueError("cu_seqlens: count positions; train without model.random_positions")
        learned = self.position_embedding
        if not isinstance(learned, LearnedPositions) or torch.compiler.is_compiling():
            return
        if most > learned.max_length:
            learned.check_length(int(cu_seqlens.diff().max()))

    def _positions(
        self, tokens: Tensor, positions: Tensor | None, cache: KVCache | None
    ) -> Tensor | None:
        """Where the tokens (B, S) stand; None: from 0 on, for layers that need no more."""
        learned = self.position_embedding
        if positions is not None:
            if isinstance(learned, LearnedPositions) and not torch.compiler.is_compiling():
                learned.check(positions)
            return positions
        seq_len = tokens.shape[1]
        past = 0 if cache is None else cache.length
        if isinstance(learned, LearnedPositions):
            learned.check_length(past + seq_len)
        if self.training and cache is None:
            positions = training_positions(self.config, seq_len, tokens.device)
        if positions is not None or (cache is None and learned is None):
            return positions
        if any(attention.core.counts for attention in self.attentions()):
            return None
        return torch.arange(past, past + seq_len, device=tokens.device)

    def attentions(self) -> list[RoPEAttention]:
        """The attention of every layer."""
        return [block.attention for block in self.blocks if isinstance(block, Block)]

    def new_cache(self, batch_size: int, max_length: int) -> KVCache:
        """An empty cache for `max_length` tokens, on the model's device and in its dtype."""
        return KVCache([layer.new_cache(batch_size, max_length) for layer in self.attentions()])

    def set_scaling(
        self,
        method: str,
        *,
        seq_len: int | None = None,
        train_length: int | None = None,
        factor: float | None = None,
        **options: object,
    ) -> None:
        """Replace the rotating layers' frequencies, in place: the arguments of `rope_frequencies`.

        They replace whatever scaling there was, the config's too; `config.scaling.arguments()`
        restores that one. A cache made before holds keys of the former frequencies.
        dynamic and longrope follow the number of tokens read, those in a cache included, where no
        `seq_len` is given (`model/by_length.py`): keys that are in a cache when the length grows
        past train_length keep the frequencies that they were rotated by, as in Hugging Face.
        Raises ValueError as `rope_frequencies` does, and where the model rotates nothing.
        """
        if self.config.position != "rope":
            if method == "none":
                return
            raise ValueError(
                f"method={method}: a model with position={self.config.position} has no "
                "frequencies to scale; use method=none"
            )
        width, theta = self.config.rotary_dim, self.config.theta
        lengths = {"train_length": train_length, "factor": factor}
        scaling: dict[str, Any] = {"method": method, **lengths, **options}
        inv_freq, attention_factor = rope_frequencies(width, theta, seq_len=seq_len, **scaling)
        follows = method in BY_LENGTH and seq_len is None
        by_length = ByLength.of(width, theta, scaling) if follows else None
        phases = rope_phases(inv_freq)
        for attention, layer in zip(self.attentions(), self.config.layers, strict=True):
            if self.config.scales(layer):  # a pattern may leave layers without
                attention.set_phases(phases, attention_factor, by_length)

    def set_score_scaling(self, train_length: int | None) -> None:
        """Scale every layer's scores with log n past `train_length`, or no longer (None).

        A query at position p is multiplied by max(1, ln(p + 1) / ln(train_length)): nothing
        changes below the training length. Raises ValueError for a length without a logarithm to
        divide by.
        """
        rules = {"train_length": optional(integer(2, 2**40, 256))}
        refuse(problems({"train_length": train_length}, rules))
        for attention in self.attentions():
            attention.set_score_scaling(train_length)

    def num_parameters(self) -> int:
        """Parameters, a tied head counted once."""
        return sum(parameter.numel() for parameter in self.parameters())


def _check_mask(mask: Tensor, tokens: Tensor, past: int) -> None:
    wanted = (tokens.shape[0], past + tokens.shape[1])
    if tuple(mask.shape) != wanted:
        raise ValueError(
            f"mask: must be {wanted}, a number for each token so far; got {tuple(mask.shape)}"
        )


def _mend_loaded(model: nn.Module, _: Any) -> None:
    """After loading with `assign=True`: the head is tied again, and the sinusoids follow."""
    assert isinstance(model, Transformer)
    model._tie()
    if isinstance(model.position_embedding, WithPhases):
        model.position_embedding.put_phases(model.embedding.weight.device)
