"""Decoding by CUDA graphs: a step is launched as one, instead of kernel by kernel.

A graph reads and writes the same addresses whenever it is replayed, so nothing of a step may depend
on numbers that Python knows: tokens, positions and the cache are tensors that stay where they are.
Row b keeps the key of position p in slot p, and what is filled is told by the positions on the
device. Attention reads the first `extent` slots, masked from a row's position on; with every
doubling of the length the step is captured anew for an extent twice as long.

Without a GPU the same step runs uncaptured, which is how it is tested there.

Shapes: B rows, T = extent, H heads of queries, Hk heads of keys and values, G = H / Hk, D head_dim,
V vocab_size.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from model.attention import RoPEAttention
from model.cache import KVCache, LayerCache
from model.capped_core import CappedCore
from model.cores import Call, Core, PlainCore
from model.decoding import Reader
from model.norms import capped
from model.positions import alibi_bias, alibi_slopes
from model.transformer import Transformer
from model.window_cores import AlibiCore, WindowCore

LEAST_EXTENT = 256  # slots; fewer are no quicker to attend to
ALIGNED = 64  # slots; attention kernels want a mask of a multiple of 8
ORDINARY = (PlainCore, WindowCore, AlibiCore, CappedCore)


class NoGraph(UserWarning):
    """A step could not be captured; it runs all the same, kernel by kernel."""


def graph_refusal(model: Transformer) -> str | None:
    """Why the model cannot be decoded by CUDA graphs as it is now, or None where it can."""
    if not isinstance(model, Transformer):
        return "the end of the text is read anew at every step"
    device = next(model.parameters()).device
    if device.type != "cuda":
        return "the model is not on a GPU"
    if device.index != torch.cuda.current_device():
        return "the model's GPU is not the current one"
    if torch.is_autocast_enabled("cuda"):
        return "autocast casts weights anew for every graph"
    return static_refusal(model)


def static_refusal(model: Transformer) -> str | None:
    """Why a step of the model cannot be made of tensors that stay where they are, or None."""
    for attention in model.attentions():
        if attention.by_length is not None:
            return "its frequencies follow the length"
        if type(attention.core) not in ORDINARY or type(attention) is not RoPEAttention:
            return "a layer attends in a way of its own"
    return None


class StaticLayerCache(LayerCache):
    """One layer's keys and values, each in the slot of its position; heads first, in memory."""

    def __init__(self, prompt: LayerCache, lengths: list[int], at: Tensor, capacity: int) -> None:
        """The last `lengths` tokens of each row of `prompt`. `at` (B,): the slot to write next."""
        batch, _, heads, head_dim = prompt.k.shape
        self.k = prompt.k.new_zeros(batch, heads, capacity, head_dim)
        self.v = torch.zeros_like(self.k)
        for row, length in enumerate(lengths):
            for own, theirs in ((self.k, prompt.k), (self.v, prompt.v)):
                newest = theirs[row, prompt.length - length : prompt.length]  # (length, Hk, D)
                own[row, :, :length] = newest.transpose(0, 1)
        self.at, self.extent, self.positions = at, 0, None

    @property
    def length(self) -> int:  # type: ignore[override]
        """As layers see it, whose newest token is the last of `extent`."""
        return self.extent - 1

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v (B, 1, Hk, D) at `at`; the first `extent` of all, (B, T, Hk, D)."""
        slots = self.at[:, None, None, None].expand(-1, k.shape[2], 1, k.shape[3])
        self.k.scatter_(2, slots, k.transpose(1, 2))
        self.v.scatter_(2, slots, v.transpose(1, 2))
        k, v = (x[:, :, : self.extent].transpose(1, 2) for x in (self.k, self.v))
        return k, v


class StaticCore(Core):
    """Attends from one query of each row to all slots, by a bias that says which it may see."""

    def __init__(self, bias: Tensor, cap: float | None) -> None:
        """`bias`: (B, 1 or H, 1, T), added to the scores. `cap`: of the scores before it."""
        self.bias, self.cap = bias, cap

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        """See `Core`; of q (B, 1, H, D). The heads that share keys take the place of queries."""
        k, v = k.transpose(1, 2), v.transpose(1, 2)  # (B, Hk, T, D)
        batch, kv_heads, n_keys, head_dim = k.shape
        queries = q.view(batch, kv_heads, -1, head_dim)  # (B, Hk, G, D)
        bias = self.bias.expand(-1, q.shape[2], -1, -1).view(batch, kv_heads, -1, n_keys)
        if self.cap is None:
            y = F.scaled_dot_product_attention(queries, k, v, attn_mask=bias)
        else:
            precision = torch.promote_types(q.dtype, torch.float32)
            scores = queries.to(precision) @ k.mT.to(precision) / math.sqrt(head_dim)
            y = (capped(scores, self.cap) + bias).softmax(dim=-1).to(v.dtype) @ v
        return y.reshape(batch, 1, -1, head_dim)

    def scores(self, q: Tensor, k: Tensor, rows: Tensor, positions: Tensor | None) -> Tensor:
        """Not of a step."""
        raise NotImplementedError


class GraphReader:
    """Reads prompts as `Reader` does, and then a token of each row at a time, by a graph."""

    def __init__(
        self, model: Transformer, mask: Tensor | None, n_rows: int, max_length: int
    ) -> None:
        """As `Reader`, for a model that `graph_refusal` does not refuse."""
        self.model, self.mask, self.max_length = model, mask, max_length
        self.cache: KVCache | None = None
        self.graph: torch.cuda.CUDAGraph | None = None
        self.captures = True
        self.extent = 0

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits (B, V) of the token after the last of `tokens` (B, S); after the first, S is 1."""
        if self.cache is None:
            return self._read_prompts(tokens)
        self.tokens.copy_(tokens)
        if self.longest + 1 > self.extent:
            self._extend()
        if self.graph is None:
            self.logits = self._step()
        else:
            self.graph.replay()
        self.at += 1
        self.longest += 1
        return self.logits

    def _read_prompts(self, tokens: Tensor) -> Tensor:
        """(B, S), and a cache for what is to come."""
        reader = Reader(self.model, self.mask, *tokens.shape)
        logits = reader(tokens)
        real = torch.ones_like(tokens) if self.mask is None else self.mask
        self.at = real.sum(dim=-1)  # (B,) int64: where the next token goes
        lengths = self.at.tolist()
        self.longest = max(lengths)
        self.capacity = _aligned(self.longest + self.max_length - tokens.shape[1])
        self.layers = [
            StaticLayerCache(layer, lengths, self.at, self.capacity)
            for layer in reader.cache.layers
        ]
        self.cache = KVCache(list(self.layers))
        self.tokens = tokens[:, -1:].clone()
        return logits

    def _extend(self) -> None:
        """Let attention see twice as many slots as have been filled, and capture the step anew."""
        self.extent = min(self.capacity, max(LEAST_EXTENT, _aligned(2 * self.longest)))
        for layer in self.layers:
            layer.extent = self.extent
        if self.at.is_cuda and self.captures:
            self.graph = None  # its memory first
            try:
                self._capture()
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                torch.cuda.synchronize()
                self.captures = False
                reason = str(error).strip().splitlines()[0]
                warnings.warn(f"decoding without CUDA graphs: {reason}", NoGraph, stacklevel=2)

    def _capture(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._step()  # compiles; a step may be repeated, for it writes what it wrote before
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.logits = self._step()
        self.graph = graph

    def _step(self) -> Tensor:
        """Logits (B, V) after `tokens`, which stand at `at`; both are as before, and may change."""
        positions = self.at[:, None]  # (B, 1)
        seen = torch.arange(self.extent, device=positions.device) <= positions  # (B, T)
        with self._static_cores(positions, seen):
            logits = self.model.forward(
                self.tokens, positions, self.cache, mask=seen, logits_to_keep=1
            )
        return logits[:, -1]

    @contextmanager
    def _static_cores(self, positions: Tensor, seen: Tensor) -> Iterator[None]:
        """Within the block, every layer attends to the slots by what it may see of them."""
        layers = self.model.attentions()
        cores, biases = [layer.core for layer in layers], {}
        for layer in layers:
            kind = (layer.window, layer.position == "alibi", layer.n_heads)
            if kind not in biases:
                biases[kind] = self._bias(layer, positions, seen)
            layer.core = StaticCore(biases[kind], layer.softcap)
        try:
            yield
        finally:
            for layer, core in zip(layers, cores, strict=True):
                layer.core = core

    def _bias(self, layer: RoPEAttention, positions: Tensor, seen: Tensor) -> Tensor:
        """What is added to the scores (B, 1 or H, 1, T): minus infinity for slots not seen."""
        slots = torch.arange(self.extent, device=seen.device)
        if layer.window is not None:
            seen = seen & (slots > positions - layer.window)
        bias = torch.zeros_like(seen, dtype=layer.qkv.weight.dtype)[:, None, None]
        if layer.position == "alibi":
            bias = alibi_bias(alibi_slopes(layer.n_heads, slots.device), positions, slots)
        return bias.to(layer.qkv.weight.dtype).masked_fill(~seen[:, None, None], -torch.inf)


def _aligned(length: int) -> int:
    return -(-length // ALIGNED) * ALIGNED
