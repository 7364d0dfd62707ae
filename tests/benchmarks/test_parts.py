"""The parts of the benchmark where no GPU is; those that need one with the clock taken away."""

import sys
import types
from functools import partial
from itertools import count

import pytest
import torch
from rich.console import Console

import benchmarks.parts.decode
import benchmarks.parts.host
import benchmarks.parts.remap
import benchmarks.parts.segments
import benchmarks.parts.step
from benchmarks import Bench, PartProgress, run_part
from benchmarks.clocks import WallClock
from benchmarks.parts.host import call_time
from benchmarks.parts.remap import NAIVE
from benchmarks.parts.segments import cu_seqlens
from benchmarks.parts.step import SIZE, VARIANTS, PeerAttention, build, cross_entropy, train_step
from benchmarks.peers import PEERS
from benchmarks.report import pictures, tables
from benchmarks.shapes import SHAPES, Shape
from methods.bend import rotated
from methods.bent_attention import bent_attention
from methods.maps import (
    DualChunk,
    LeakyReRope,
    MeanReRope,
    ReRope,
    SelfExtend,
    Sinks,
    Window,
)
from model import RoPEAttention

CPU = torch.device("cpu")
SMALL = Shape(2, 24, 4, 2, 16, torch.float32)


def bench_on_cpu(rounds: int = 2) -> Bench:
    progress = PartProgress().part("test")
    return Bench(CPU, WallClock(), rounds, 0, progress)


def printed(part: str, result: dict) -> str:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        for shown in tables(part, result):
            console.print(shown)
    return capture.get()


def test_accuracy_tells_exact_angles_from_float32_ones() -> None:
    result = run_part("accuracy", {}, bench_on_cpu())
    errors = result["relative_error"]
    assert max(errors["ropewalk"]) < 4e-7
    assert errors["float32 angle"][0] < 1e-6 < 1e-3 < errors["float32 angle"][20]
    assert 5e-4 < errors["bfloat16 table"][0] < 5e-3
    assert max(result["angle_error"]["ropewalk"]) < 1e-6
    assert "2^40" in printed("accuracy", result)


@pytest.mark.parametrize("segments", [1, 2, 16, 100])
def test_segments_fill_the_sequence(segments: int) -> None:
    boundaries = cu_seqlens(segments, 100, seed=0)
    assert boundaries.dtype == torch.int32 and len(boundaries) == segments + 1
    assert boundaries[0] == 0 and boundaries[-1] == 100 and (boundaries.diff() > 0).all()


def test_result_is_freed_outside_the_time_of_the_call() -> None:
    events: list[str] = []

    class Result:
        def __del__(self) -> None:
            events.append("freed")

    assert call_time(Result, now=lambda: events.append("read") or 0.0) == 0
    assert events == ["read", "read", "freed"]


def test_host_on_a_cpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    name = SMALL.name
    monkeypatch.setitem(SHAPES, name, SMALL)
    settings = {"cells": [name], "peers": ["copy", "table", "liger", "seed"], "host_calls": 100}
    result = benchmarks.parts.host.host(settings, bench_on_cpu())
    cell = result["cells"][name]
    assert list(cell["no_grad"]) == list(cell["requires_grad"]) == ["copy", "table"]
    assert {"liger", "seed"} == set(cell["reasons"])
    assert "target 15" in printed("host", result)


def test_segments_on_a_cpu(monkeypatch) -> None:
    monkeypatch.setattr(benchmarks.parts.segments, "PACKED", Shape(1, 64, 1, 1, 16))
    monkeypatch.setattr(benchmarks.parts.segments, "SEGMENTS", (1, 4))
    result = benchmarks.parts.segments.segments({}, bench_on_cpu())
    assert result["reasons"] == {}
    assert list(result["segments"]) == ["copy", "1", "4"]
    assert result["segments"]["1"]["of_one_segment"] == 1
    assert "× one segment" in printed("segments", result)


@pytest.mark.slow
def test_remap_on_a_cpu(monkeypatch) -> None:
    for name, value in {"LENGTHS": (20,), "TRAIN_LENGTH": 8, "HEADS": 1, "HEAD_DIM": 16}.items():
        monkeypatch.setattr(benchmarks.parts.remap, name, value)

    def out_of_memory(*_) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(benchmarks.parts.remap, "materialised_rerope", out_of_memory)
    result = benchmarks.parts.remap.remap({}, bench_on_cpu(rounds=1))
    cell = result["lengths"]["20"]
    assert list(cell["ways"]) == ["plain causal", *benchmarks.parts.remap.maps(20), "SDPA causal"]
    assert cell["reasons"] == {NAIVE: "OutOfMemoryError: CUDA out of memory"}
    assert cell["ways"]["plain causal"]["of_plain"] == 1
    assert "20 tokens" in printed("remap", result) and NAIVE in printed("remap", result)


def test_all_ways_to_attend_agree_where_they_should() -> None:
    """ReRoPE by passes and by all scores of all pairs; settings by the rules of evaluation."""
    attention = RoPEAttention(32, 2, causal=True, backend="pytorch")
    q, k, v = (torch.randn(1, 40, 2, 16) for _ in range(3))
    rotation = partial(rotated, attention)
    naive = benchmarks.parts.remap.materialised_rerope(q, k, v, 8, rotation)
    ours = bent_attention(q, k, v, ReRope(8), rotation)
    torch.testing.assert_close(naive, ours, rtol=0, atol=1e-5)
    assert benchmarks.parts.remap.maps(4096) == {
        "ReRoPE": ReRope(256),
        "mean ReRoPE": MeanReRope(256, 511),
        "Leaky ReRoPE": LeakyReRope(256, 15),
        "Self-Extend": SelfExtend(19, 128),
        "dual-chunk": DualChunk(384, 64),
        "window": Window(512),
        "sinks": Sinks(4, 508),
    }


class FakeEvent:
    """A CUDA event that says how many events there were before it, in milliseconds."""

    clock = count()

    def __init__(self, enable_timing: bool) -> None: ...

    def record(self) -> None:
        self.time = next(self.clock)

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: "FakeEvent") -> float:
        return float(end.time - self.time)


@pytest.mark.slow
def test_step_on_a_cpu(monkeypatch) -> None:
    small = {"vocab_size": 64, "n_layers": 1, "d_model": 32, "n_heads": 2, "mlp_hidden": 32}
    monkeypatch.setattr(benchmarks.parts.step, "SIZE", SIZE | small)
    monkeypatch.setattr(benchmarks.parts.step, "SEQ_LEN", 16)
    monkeypatch.setattr(benchmarks.parts.step, "HEADS", Shape(1, 16, 2, 2, 16))
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: None)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    settings = {"step_batch": 2, "step_repeats": 2, "step_rounds": 3}
    names = ["nope", "pytorch", "table", "liger", "nope-qknorm", "pytorch-qknorm"]
    result = benchmarks.parts.step.step(settings | {"step_variants": names}, bench_on_cpu())
    assert list(result["variants"]) == [name for name in names if name != "liger"]
    assert "liger" in result["reasons"]
    figures = result["variants"]["pytorch"]
    assert figures["rounds_ms"] == [0.5] * 3 and figures["over_nope"] == 0
    assert figures["tokens_per_second"] == 2 * 16 / 0.5 * 1000
    assert "+0.00%" in printed("step", result)


def test_a_training_step_trains(monkeypatch) -> None:
    small = {"vocab_size": 64, "n_layers": 1, "d_model": 32, "n_heads": 2, "mlp_hidden": 32}
    monkeypatch.setattr(benchmarks.parts.step, "SIZE", SIZE | small)
    net = build(VARIANTS["pytorch"], CPU)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    tokens = torch.randint(64, (2, 17))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    train_step(net, cross_entropy, optimizer, tokens[:, :-1], tokens[:, 1:])
    assert all(not torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert all(p.grad is None for p in net.parameters())


def test_liger_takes_the_place_of_the_rotation(monkeypatch) -> None:
    """Its attention calls Liger's function, and is then RoPEAttention with half-split pairs."""
    calls = []

    class LigerRopeFunction:
        @staticmethod
        def apply(q, k, cos, sin):  # (B, H, S, D)
            calls.append(q.shape)
            cos, sin = cos[:, : q.shape[2]].float(), sin[:, : q.shape[2]].float()

            def rotate(x):
                first, second = x.chunk(2, dim=-1)
                return x * cos + torch.cat((-second, first), dim=-1) * sin

            return rotate(q), rotate(k)

    module = types.ModuleType("liger_kernel.ops.rope")
    module.LigerRopeFunction = LigerRopeFunction
    monkeypatch.setitem(sys.modules, "liger_kernel", types.ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.ops", types.ModuleType("liger_kernel.ops"))
    monkeypatch.setitem(sys.modules, "liger_kernel.ops.rope", module)
    theirs = PeerAttention(128, 2, PEERS["liger"], CPU)
    ours = RoPEAttention(128, 2, dropout=0.0, causal=True, backend="pytorch", interleaved=False)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 10, 128)
    torch.testing.assert_close(theirs(x), ours(x), atol=5e-3, rtol=0)
    assert calls == [(2, 2, 10, 64)]


@pytest.mark.slow
def test_decode_on_a_cpu(monkeypatch) -> None:
    """Both continue alike, so it is one model; what is not there leaves its reason."""
    small = {"vocab_size": 64, "n_layers": 2, "d_model": 32, "n_heads": 2, "n_kv_heads": 1}
    size = small | {"mlp_hidden": 48}
    monkeypatch.setattr(benchmarks.parts.decode, "SIZE", size)
    settings = {"decode_batches": [1, 2], "decode_tokens": 6, "decode_rounds": 2}
    settings["decode_variants"] = ["ropewalk", "ropewalk-graph", "transformers"]
    result = benchmarks.parts.decode.decode(settings, bench_on_cpu())
    for cell in result["batches"].values():
        assert cell["reasons"] == {"ropewalk-graph": "the model is not on a GPU"}
        ours, theirs = cell["variants"]["ropewalk"], cell["variants"]["transformers"]
        assert theirs["same_tokens"] == ours["same_tokens"] == 6
        assert theirs["of_transformers"] == 1 and len(ours["rounds_seconds"]) == 2
        assert ours["tokens_per_second"] > 0
    assert "2 prompts of 32" in printed("decode", result)
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = benchmarks.parts.decode.decode(settings, bench_on_cpu())
    assert "not installed" in result["batches"]["1"]["reasons"]["transformers"]
    assert list(result["batches"]["1"]["variants"]) == ["ropewalk"]


def test_pictures_and_tables_of_what_was_measured() -> None:
    figures = {"median_us": 20.0, "of_copy": 1.25, "of_ours": None}
    forward = {name: figures for name in PEERS}
    cells = {"a": {"forward": forward, "reasons": {"seed": "too slow"}}, "b": {"skipped": "large"}}
    length = {"lengths": [512, 1024], "cells": cells}
    assert [name for name, _ in pictures("length", length)] == ["length-time", "length-copy"]
    assert "seed: too slow" in printed("length", length) and "b: large" in printed("length", length)
    uncompared = {"forward": {"pytorch": figures | {"of_copy": None}}, "reasons": {}}
    alone = {"lengths": [16], "cells": {"a": uncompared}}
    assert [name for name, _ in pictures("length", alone)] == ["length-time"]
    nothing = {"lengths": [512], "cells": {"b": {"skipped": "large"}}}
    assert list(pictures("length", nothing)) == []
