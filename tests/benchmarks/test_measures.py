"""What the benchmark measures with: peers, oracle, clocks, and its parts where no GPU is."""

import sys
import types
from collections.abc import Callable
from itertools import count

import pytest
import torch
from rich.console import Console

import benchmarks.parts.host
import benchmarks.parts.remap
import benchmarks.parts.segments
import benchmarks.parts.step
from benchmarks import Bench, PartProgress, run_part
from benchmarks.cells import CELLS, Cell
from benchmarks.oracle import exact_cos_sin
from benchmarks.parts.grid import greatest_error
from benchmarks.parts.host import call_time
from benchmarks.parts.remap import NAIVE
from benchmarks.parts.segments import cu_seqlens
from benchmarks.parts.step import SIZE, VARIANTS, PeerAttention, build, cross_entropy, train_step
from benchmarks.peers import PEERS, Peer
from benchmarks.plots import pictures
from benchmarks.tables import tables
from benchmarks.timing import Timing, WallClock, interleaved, measure, median_ratio
from kernels import inverse_frequencies, rope_pytorch
from methods.bend import remapped_attention
from methods.maps import ReRope
from methods.registry import REMAPS, remap_of
from model import RoPEAttention
from oracle import cos_sin

CPU = torch.device("cpu")
SMALL = [
    Cell(2, 24, 4, 2, 16, torch.float32),
    Cell(2, 24, 2, 2, 16, torch.float32, rotary_dim=8),
    Cell(8, 1, 4, 2, 16, torch.float32),
]


def bench_on_cpu(rounds: int = 2) -> Bench:
    progress = PartProgress().part("test")
    return Bench(CPU, WallClock(), rounds, 0, progress)


def printed(part: str, result: dict) -> str:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        for shown in tables(part, result):
            console.print(shown)
    return capture.get()


# Peers and oracle


@pytest.mark.parametrize("cell", SMALL, ids=lambda cell: cell.name)
@pytest.mark.parametrize("name", ["ropewalk", "ropewalk-half-split", "pytorch", "table"])
def test_peer_rotates_as_rope_pytorch_does(name: str, cell: Cell) -> None:
    peer = PEERS[name]
    assert peer.refusal(cell, CPU) is None
    q, k = cell.tensors(CPU, seed=1)
    rotated = [peer.restore(y) for y in peer.prepare(cell, CPU)(peer.arrange(q), peer.arrange(k))]
    inv_freq = inverse_frequencies(cell.rotated)
    kwargs = {"positions": cell.positions(CPU), "inv_freq": inv_freq}
    expected = rope_pytorch(q, k, interleaved=peer.interleaved, **kwargs)
    tolerance = 2e-3 if cell.seq_len == 1 and name == "table" else 1e-5  # its angles are float32
    for y, exact in zip(rotated, expected, strict=True):
        torch.testing.assert_close(y, exact, atol=tolerance, rtol=0)
    assert greatest_error(cell, peer, bench_on_cpu()) < tolerance


@pytest.mark.parametrize("layout", ["BSHD", "BHSD view", "BHSD"])
def test_layouts_are_undone(layout: str) -> None:
    x = torch.randn(2, 3, 4, 6)
    for in_place in (False, True):
        peer = Peer("", PEERS["copy"].prepare, None, layout=layout, in_place=in_place)
        assert torch.equal(peer.restore(peer.arrange(x)), x)
        assert peer.arrange(x).is_contiguous() == (layout != "BHSD view")
    peer.arrange(x).zero_()  # whoever rotates in place has a copy of its own
    assert x.abs().sum() > 0


def test_a_result_that_is_no_number_is_no_small_error() -> None:
    peer = Peer("", lambda *_: lambda q, k: (q * torch.nan, k * torch.nan), True)
    with pytest.raises(ValueError, match="NaN or Inf"):
        greatest_error(SMALL[0], peer, bench_on_cpu())


def test_copy_copies_both_ways() -> None:
    copy = PEERS["copy"].prepare(SMALL[0], CPU)
    q, k = (x.requires_grad_() for x in SMALL[0].tensors(CPU, seed=0))
    y = copy(q, k)
    assert torch.equal(y[0], q) and y[0].data_ptr() != q.data_ptr()
    gradients = torch.autograd.grad(y, (q, k), (q.detach(), k.detach()))
    assert torch.equal(gradients[1], k) and gradients[1].data_ptr() != k.data_ptr()


def test_oracle_is_exact() -> None:
    positions = [0, 1, -7, 2**20 + 1, 2**31 - 1, 2**40 + 15]
    inv_freq = inverse_frequencies(16).tolist()
    cos, sin = exact_cos_sin(positions, inv_freq)
    exact = [[cos_sin(m, f) for f in inv_freq] for m in positions]
    expected = torch.tensor(exact, dtype=torch.float64)
    torch.testing.assert_close(torch.stack((cos, sin), dim=-1), expected, atol=1e-15, rtol=0)


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


# Timing


def test_wall_clock_measures_the_call_alone() -> None:
    ticks = iter([0.0, 0.5, 10.0, 10.25])
    sample, mode = WallClock(now=lambda: next(ticks)).prepare(lambda: None)
    assert [sample(), sample()] == [0.5e6, 0.25e6]
    assert mode == "wall clock"


def test_rounds_are_interleaved_and_shuffled() -> None:
    calls: list[str] = []
    numbers = count()

    def sampler(name: str):
        return lambda: calls.append(name) or next(numbers)

    samples = interleaved({name: sampler(name) for name in "abc"}, rounds=20, seed=0)
    assert all(sorted(calls[i : i + 3]) == ["a", "b", "c"] for i in range(0, 60, 3))
    assert len({tuple(calls[i : i + 3]) for i in range(0, 60, 3)}) > 3
    assert all(i // 3 == round_ for s in samples.values() for round_, i in enumerate(s))


def test_medians_and_paired_ratios() -> None:
    summary = Timing([float(i) for i in range(1, 12)], "wall clock").summary()
    assert summary == {"median_us": 6.0, "p10_us": 2.0, "p90_us": 10.0, "mode": "wall clock"}
    # The machine is slow in the middle round, for both: their ratio stays.
    assert median_ratio([2.0, 200.0, 2.0], [1.0, 100.0, 1.0]) == 2.0


def test_one_that_fails_leaves_the_others() -> None:
    def fails() -> None:
        raise RuntimeError("no memory\nand more")

    makers = {"good": lambda: lambda: None, "bad": lambda: fails, "worse": fails}
    timings, reasons = measure(makers, WallClock(), 3, 0, on_step=lambda name: None)
    assert list(timings) == ["good"] and len(timings["good"].times) == 3
    assert reasons == {name: "RuntimeError: no memory" for name in ("bad", "worse")}


def test_places_take_turns() -> None:
    made = count()

    def make() -> Callable[[], None]:
        place = next(made)
        return lambda: calls.append(place)

    calls: list[int] = []
    measure({"one": make}, WallClock(), 5, 0, on_step=lambda name: None, places=3)
    assert calls[-5:] == [0, 1, 2, 0, 1]


def test_result_is_freed_outside_the_time_of_the_call() -> None:
    events: list[str] = []

    class Result:
        def __del__(self) -> None:
            events.append("freed")

    assert call_time(Result, now=lambda: events.append("read") or 0.0) == 0
    assert events == ["read", "read", "freed"]


# Parts that need a GPU, with the clock taken away


def test_host_on_a_cpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    name = SMALL[0].name
    monkeypatch.setitem(CELLS, name, SMALL[0])
    settings = {"cells": [name], "peers": ["copy", "table", "liger", "seed"], "host_calls": 100}
    result = benchmarks.parts.host.host(settings, bench_on_cpu())
    cell = result["cells"][name]
    assert list(cell["no_grad"]) == list(cell["requires_grad"]) == ["copy", "table"]
    assert {"liger", "seed"} == set(cell["reasons"])
    assert "target 15" in printed("host", result)


def test_segments_on_a_cpu(monkeypatch) -> None:
    monkeypatch.setattr(benchmarks.parts.segments, "PACKED", Cell(1, 64, 1, 1, 16))
    monkeypatch.setattr(benchmarks.parts.segments, "SEGMENTS", (1, 4))
    result = benchmarks.parts.segments.segments({}, bench_on_cpu())
    assert result["reasons"] == {}
    assert list(result["segments"]) == ["copy", "1", "4"]
    assert result["segments"]["1"]["of_one_segment"] == 1
    assert "× one segment" in printed("segments", result)


def test_remap_on_a_cpu(monkeypatch) -> None:
    for name, value in {"LENGTHS": (20,), "TRAIN_LENGTH": 8, "HEADS": 1, "HEAD_DIM": 16}.items():
        monkeypatch.setattr(benchmarks.parts.remap, name, value)

    def out_of_memory(*_) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(benchmarks.parts.remap, "materialised_rerope", out_of_memory)
    result = benchmarks.parts.remap.remap({}, bench_on_cpu(rounds=1))
    cell = result["lengths"]["20"]
    assert list(cell["ways"]) == ["plain causal", *benchmarks.parts.remap.remaps(20), "SDPA causal"]
    assert cell["reasons"] == {NAIVE: "OutOfMemoryError: CUDA out of memory"}
    assert cell["ways"]["plain causal"]["of_plain"] == 1
    assert "20 tokens" in printed("remap", result) and NAIVE in printed("remap", result)


def test_all_ways_to_attend_agree_where_they_should() -> None:
    """ReRoPE by passes and by all scores of all pairs; settings by the rules of evaluation."""
    attention = RoPEAttention(32, 2, causal=True, backend="pytorch")
    q, k, v = (torch.randn(1, 40, 2, 16) for _ in range(3))
    naive = benchmarks.parts.remap.materialised_rerope(q, k, v, 8, attention.rotated)
    ours = remapped_attention(q, k, v, ReRope(8), attention.rotated)
    torch.testing.assert_close(naive, ours, rtol=0, atol=1e-5)
    rules = [remap_of(n, (), context=4096, train_length=512) for n in REMAPS]
    assert list(benchmarks.parts.remap.remaps(4096).values()) == rules


class FakeEvent:
    """A CUDA event that says how many events there were before it, in milliseconds."""

    clock = count()

    def __init__(self, enable_timing: bool) -> None: ...

    def record(self) -> None:
        self.time = next(self.clock)

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: "FakeEvent") -> float:
        return float(end.time - self.time)


def test_step_on_a_cpu(monkeypatch) -> None:
    small = {"vocab_size": 64, "n_layers": 1, "d_model": 32, "n_heads": 2, "mlp_hidden": 32}
    monkeypatch.setattr(benchmarks.parts.step, "SIZE", SIZE | small)
    monkeypatch.setattr(benchmarks.parts.step, "SEQ_LEN", 16)
    monkeypatch.setattr(benchmarks.parts.step, "HEADS", Cell(1, 16, 2, 2, 16))
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


def test_pictures_and_tables_of_what_was_measured() -> None:
    figures = {"median_us": 20.0, "of_copy": 1.25, "of_ours": None}
    forward = {name: figures for name in PEERS}
    cells = {"a": {"forward": forward, "reasons": {"seed": "too slow"}}, "b": {"skipped": "large"}}
    length = {"lengths": [512, 1024], "cells": cells}
    assert [name for name, _ in pictures("length", length)] == [
        "length-time.png",
        "length-copy.png",
    ]
    assert "seed: too slow" in printed("length", length) and "b: large" in printed("length", length)
    uncompared = {"forward": {"pytorch": figures | {"of_copy": None}}, "reasons": {}}
    alone = {"lengths": [16], "cells": {"a": uncompared}}
    assert [name for name, _ in pictures("length", alone)] == ["length-time.png"]
    nothing = {"lengths": [512], "cells": {"b": {"skipped": "large"}}}
    assert list(pictures("length", nothing)) == []
