"""The benchmark's command: what it writes, what it says, what it refuses."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from benchmarks import PARTS
from benchmarks.parts.decode import VARIANTS as DECODE
from benchmarks.parts.step import VARIANTS
from benchmarks.peers import PEERS
from benchmarks.shapes import SHAPES
from commands import ROOT, command, refused

CONFIG = OmegaConf.load(ROOT / "configs" / "benchmark.yaml")
TINY = ("rounds=2", "cells=[64x1x32x8x128-bf16,64x1024x12x12x64-bf16]", "lengths=[16,32]")


@pytest.mark.slow
def test_command_on_a_cpu(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    peers = "peers=[copy,ropewalk,pytorch,table,seed]"
    done = command(
        "benchmark.py", *TINY, peers, "output_dir=out", "figures=[png,svg]", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    for text in ("64x1x32x8x128-bf16", "fwd+bwd", "float32 angle", "not measured", "results: out"):
        assert text in done.stdout, text
    report = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert list(report["parts"]) == list(PARTS)
    assert report["environment"]["command"].startswith("python ")
    assert report["environment"]["versions"]["torch"] == torch.__version__
    for part in ("host", "step", "segments", "projection", "remap", "decode"):
        assert "CUDA GPU" in report["parts"][part]["skipped"]
    small, large = report["parts"]["grid"]["cells"].values()
    assert "elements" in large["skipped"]
    assert small["forward"]["table"]["median_us"] > 0
    assert small["forward_backward"]["copy"]["of_copy"] == 1
    assert small["error"]["ropewalk"] < 4e-3 and "interpreter" in small["reasons"]["ropewalk"]
    assert "GPU" in small["reasons"]["seed"]
    names = {path.name for path in (tmp_path / "out").iterdir()} - {".lock"}
    drawn = {"accuracy", "length-time", "length-copy"}
    files = {f"{name}.{kind}" for name in drawn for kind in ("png", "svg")}
    assert names == files | {"benchmark.json"}
    for name in drawn:
        path = tmp_path / "out" / f"{name}.png"
        assert path.stat().st_size < 300_000
        assert Image.open(path).format == "PNG"


def test_help_answers_at_once(tmp_path: Path) -> None:
    done = command("benchmark.py", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "python benchmark.py parts=[accuracy]" in done.stdout and "step_batch" in done.stdout
    assert list(tmp_path.iterdir()) == []


MISTAKES = [
    (["parts=[]"], "parts=[]", "list of one or more", "try parts=[grid]"),
    (["parts=grid"], "parts=grid", "list", "parts=[grid]"),
    (["parts=[gird]"], "parts=[gird]", "try parts=[grid]"),
    (["cells=[64x1x32x8x128]"], "cells=[64x1x32x8x128]", "try cells=[64x1x32x8x128-bf16]"),
    (["peers=[copi,liger]"], "peers=[copi,liger]", "try peers=[copy,liger]"),
    (["lengths=[0]"], "lengths=[0]", "integer", "lengths=[512]"),
    (["step_variants=null"], "step_variants=null", "step_variants=[nope]"),
    (["rounds=0"], "rounds=0", "from 1 to 10000"),
    (["host_calls=many"], "host_calls=many", "integer"),
    (["decode_batches=8", "decode_tokens=0"], "try decode_batches=[8]", "decode_tokens=0"),
    (["step_batch=-1"], "step_batch=-1", "step_batch=64"),
    (["seed=x"], "seed=x", "integer"),
    (["parts=[accuracy]", "rounds=5"], "rounds=5", "parts=grid/segments/projection/remap/length"),
    (["figures=svq"], "figures=svq", "one of png, svg, pdf, or a list", "try figures=svg"),
    (["parts=[grid]", "figures=svg"], "figures=svg", "only parts=length/accuracy reads it"),
    (["output_dir=file"], "output_dir=file", "cannot be made"),
    (["round=5"], "round=5", "did you mean rounds"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: " ".join(mistake[0]))
def test_refuses(mistake: tuple, tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    arguments, *expected = mistake
    message = refused("benchmark.py", *arguments, monkeypatch=monkeypatch, capfd=capfd)
    assert len(message.splitlines()) <= 2
    for part in expected:
        assert part in message, message
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_config_lists_all_there_is() -> None:
    assert list(CONFIG.parts) == list(PARTS)
    assert list(CONFIG.cells) == list(SHAPES)
    assert list(CONFIG.peers) == list(PEERS)
    assert list(CONFIG.step_variants) == list(VARIANTS)
    assert list(CONFIG.decode_variants) == list(DECODE)
    assert {key for part in PARTS.values() for key in part.reads} <= set(CONFIG)


@pytest.mark.gpu
def test_every_part_on_a_gpu(tmp_path: Path) -> None:
    settings = ("rounds=3", "lengths=[512,1024]", "host_calls=100", "output_dir=out")
    cells = "cells=[4x512x8x8x64-fp32,8x4096x16x2x256-bf16-rotary64,64x1x32x8x128-bf16]"
    steps = ("step_batch=2", "step_variants=[ropewalk]", "step_repeats=2", "step_rounds=2")
    decoding = ("decode_batches=[2]", "decode_tokens=8", "decode_rounds=1")
    peers = "peers=[copy,ropewalk,ropewalk-half-split,table,table-compiled,seed]"
    done = command("benchmark.py", *settings, cells, peers, *steps, *decoding, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    parts = json.loads((tmp_path / "out" / "benchmark.json").read_text())["parts"]
    for cell in parts["grid"]["cells"].values():
        ours = cell["forward"]["ropewalk"]
        assert ours["mode"] == cell["forward_backward"]["ropewalk"]["mode"] == "CUDA graph"
        assert cell["error"]["ropewalk"] < 4e-3
        assert cell["error"]["table"] < 1e-2
    assert parts["grid"]["cells"]["4x512x8x8x64-fp32"]["error"]["seed"] < 1e-3
    assert parts["grid"]["empty_graph_us"] > 0
    assert parts["host"]["cells"]["64x1x32x8x128-bf16"]["no_grad"]["ropewalk"] > 0
    assert parts["step"]["variants"]["ropewalk"]["median_ms"] > 0
    assert set(parts["segments"]["segments"]) == {"copy", "1", "16", "256", "2048"}
    for cell in parts["projection"]["widths"].values():
        assert {"F.linear", "F.linear, then rotation", "copy of q and k"} <= set(cell["ways"])
    for cell in parts["remap"]["lengths"].values():
        assert {"plain causal", "ReRoPE", "SDPA causal"} <= set(cell["ways"])
        assert all(way["peak_memory_bytes"] > 0 for way in cell["ways"].values())
    decoded = parts["decode"]["batches"]["2"]
    assert {"ropewalk", "ropewalk-graph"} <= set(decoded["variants"]), decoded["reasons"]
    assert (tmp_path / "out" / "length-copy.png").stat().st_size < 300_000
