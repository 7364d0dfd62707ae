"""What RoPE costs in a whole training step: a 124M model, bf16 autocast, compiled, AdamW.

Shapes: B batch, S sequence, V vocabulary, H heads, D head_dim.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch._dynamo
import torch.nn.functional as F
from rich.console import RenderableType
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.failures import recorded
from benchmarks.peers import PEERS, Peer
from benchmarks.shapes import Shape
from benchmarks.tables import caption, new_table, number
from benchmarks.timing import interleaved, median_ratio, release
from model import RoPEAttention, Transformer, TransformerConfig

SEQ_LEN = 1024
WARM_UP_STEPS = 5
SIZE: dict[str, Any] = {
    "vocab_size": 50304,
    "n_layers": 12,
    "d_model": 768,
    "n_heads": 12,
    "mlp": "relu2",
    "mlp_hidden": 3072,
}
HEADS = Shape(1, SEQ_LEN, SIZE["n_heads"], SIZE["n_heads"], 64)  # of one sequence

HOW = (
    "milliseconds of a training step: the median over rounds, in each of which every variant runs "
    "some steps in shuffled order; over_nope is the median of the ratios within a round to the "
    "same model without positions, less 1"
)


class Variant(NamedTuple):
    """How the model knows positions."""

    position: str
    backend: str = "auto"
    qk_norm: bool = False
    peer: str | None = None  # another rotation in the place of ours
    fused: bool = False

    @property
    def baseline(self) -> str:
        """The variant without positions that it is compared with."""
        return "nope-qknorm" if self.qk_norm else "nope"


VARIANTS = {
    "nope": Variant("nope"),
    "ropewalk": Variant("rope", "triton"),
    "ropewalk-fused": Variant("rope", "triton", fused=True),
    "pytorch": Variant("rope", "pytorch"),
    "table": Variant("rope", "pytorch", peer="table"),
    "liger": Variant("rope", "pytorch", peer="liger"),
    "nope-qknorm": Variant("nope", qk_norm=True),
    "ropewalk-qknorm": Variant("rope", "triton", qk_norm=True),
    "pytorch-qknorm": Variant("rope", "pytorch", qk_norm=True),
}


class PeerAttention(RoPEAttention):
    """The same attention with another's rotation of q and k, which are views of one projection."""

    def __init__(self, d_model: int, n_heads: int, peer: Peer, device: torch.device) -> None:
        super().__init__(d_model, n_heads, dropout=0.0, causal=True, backend="pytorch")
        assert peer.layout != "BHSD"  # a projection does not come so
        self.rotate = peer.prepare(HEADS, device)
        self.heads_first = peer.layout == "BHSD view"

    def _project(
        self, x: Tensor, positions: Tensor | None, length: int, cu_seqlens: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # (B, S, 3 H, D)
        q, k, v = heads.chunk(3, dim=2)
        if self.heads_first:
            q, k = self.rotate(q.transpose(1, 2), k.transpose(1, 2))
            return q.transpose(1, 2), k.transpose(1, 2), v
        return *self.rotate(q, k), v


def step(settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """Milliseconds, tokens per second, and the part that positions take, of every variant."""
    names = [name for name in VARIANTS if name in settings["step_variants"]]
    rounds = settings["step_rounds"]
    bench.progress.expect(len(names) + rounds)
    tokens = _tokens(settings["step_batch"], bench)
    samplers: dict[str, Callable[[], float]] = {}
    reasons: dict[str, str] = {}
    # Each variant compiles the same functions anew: more often than torch.compile expects.
    with torch._dynamo.config.patch(recompile_limit=64, accumulated_recompile_limit=4096):
        for name in names:
            bench.progress.step(f"compiling {name}")
            peer = VARIANTS[name].peer
            if peer and (refusal := PEERS[peer].refusal(HEADS, bench.device)):
                reasons[name] = refusal
                continue
            with recorded(name, reasons):
                samplers[name] = _sampler(VARIANTS[name], tokens, settings["step_repeats"])
            release()
        times = interleaved(samplers, rounds, bench.seed, lambda: bench.progress.step("rounds"))
    batch = tokens[0].numel()
    figures = {name: _figures(name, times, batch) for name in times}
    return {"how": HOW, "tokens_per_step": batch, "variants": figures, "reasons": reasons}


def _tokens(batch: int, bench: Bench) -> tuple[Tensor, Tensor]:
    """Random inputs (B, S) and targets (B, S)."""
    generator = torch.Generator(bench.device).manual_seed(bench.seed)
    shape = (batch, SEQ_LEN + 1)
    tokens = torch.randint(
        SIZE["vocab_size"], shape, generator=generator, device=bench.device, dtype=torch.int64
    )
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def build(variant: Variant, device: torch.device) -> Transformer:
    """The 124M model of a variant."""
    net = Transformer(
        TransformerConfig(
            **SIZE,
            position=variant.position,
            backend=variant.backend,
            qk_norm=variant.qk_norm,
            fused_projection=variant.fused,
        )
    )
    if variant.peer:
        for block in net.blocks:
            widths = SIZE["d_model"], SIZE["n_heads"]
            block.attention = PeerAttention(*widths, PEERS[variant.peer], device)
        net.init_weights()
    return net.to(device)


def _sampler(variant: Variant, tokens: tuple[Tensor, Tensor], repeats: int) -> Callable[[], float]:
    """Compile and warm a variant up; returns what runs `repeats` steps and gives ms of one."""
    device = tokens[0].device
    net = build(variant, device)
    net.compile(fullgraph=True, dynamic=False)
    loss_of = torch.compile(cross_entropy, fullgraph=True, dynamic=False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def sample() -> float:
        start.record()
        for _ in range(repeats):
            train_step(net, loss_of, optimizer, *tokens)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / repeats

    for _ in range(WARM_UP_STEPS):
        train_step(net, loss_of, optimizer, *tokens)
    torch.cuda.synchronize()
    return sample


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """In float32, of logits (B, S, V); compiled, as in training here."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def train_step(
    net: Transformer,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
) -> None:
    """Forward, loss, backward, and AdamW."""
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
        loss = loss_of(net(inputs), targets)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _figures(name: str, times: Mapping[str, list[float]], tokens: int) -> dict[str, Any]:
    median = float(np.median(times[name]))
    baseline = VARIANTS[name].baseline
    ratio = median_ratio(times[name], times[baseline]) if baseline in times else None
    return {
        "median_ms": round(median, 3),
        "rounds_ms": [round(ms, 3) for ms in times[name]],
        "tokens_per_second": round(tokens / median * 1000),
        "over_nope": None if ratio is None else round(ratio - 1, 4),
    }


def tables(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Time of a step by variant."""
    heads = ("ms", "fastest", "slowest round", "tokens/s", "over nope")
    table = new_table("A training step of the 124M model", "variant", *heads)
    for name, figures in result["variants"].items():
        rounds = figures["rounds_ms"]
        times = [f"{ms:.2f}" for ms in (figures["median_ms"], min(rounds), max(rounds))]
        over = number(figures["over_nope"], "+.2%")
        table.add_row(name, *times, f"{figures['tokens_per_second']:,}", over)
    notes = f"{result['tokens_per_step']:,} tokens a step; nope: no positions"
    table.caption = caption(notes, result["reasons"])
    yield table
