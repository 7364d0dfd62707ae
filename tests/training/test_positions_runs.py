"""Runs with every way of knowing positions: trained, measured, continued, as a user does it."""

import json
from pathlib import Path

import pytest
import torch

from commands import TINY, command_here, write_text
from training.checkpoint_files import find_checkpoint, network_weights, read_checkpoint

SHORT = (*TINY, "data.path=text.txt", "trainer.max_steps=4", "trainer.val_check_interval=4")
UNMEASURED = ("evaluation.lengths=[32]", "evaluation.methods=[none]")  # as little as can be


def train(home: Path, name: str, *options: str) -> Path:
    """The directory of a run of a few steps."""
    if not (home / "text.txt").exists():
        write_text(home / "text.txt")
    done = command_here("train.py", *SHORT, *options, f"run_dir={name}", cwd=home)
    assert done.returncode == 0, done.stderr
    return home / name


@pytest.mark.parametrize("position", ["alibi", pytest.param("sinusoidal", marks=pytest.mark.slow)])
def test_a_run_trains_measures_and_generates(position: str, tmp_path: Path) -> None:
    run = train(tmp_path, "run", f"position={position}")
    extrapolation = json.loads((run / "extrapolation.json").read_text())
    assert all(bpb > 0 for bpb in extrapolation["methods"]["none"]["bpb"])  # at 8 x too
    done = command_here("generate.py", "checkpoint=run", "prompt=line", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("line"), done.stderr


def test_learned_positions_end_where_training_did(tmp_path: Path) -> None:
    run = train(tmp_path, "run", "position=learned")
    extrapolation = json.loads((run / "extrapolation.json").read_text())
    assert extrapolation["lengths"] == [32, 64, 128, 256]
    assert extrapolation["methods"]["none"]["bpb"][1:] == [None] * 3
    reason = extrapolation["reasons"]["none"]["64"]
    assert "do not extrapolate" in reason
    assert (run / "samples.txt").read_text()
    done = command_here("generate.py", "checkpoint=run", "prompt=line", cwd=tmp_path)
    assert done.returncode == 2
    assert "error: max_new_tokens=400" in done.stderr and "Traceback" not in done.stderr
    done = command_here(
        "generate.py", "checkpoint=run", "prompt=line", "max_new_tokens=29", cwd=tmp_path
    )
    assert done.returncode == 0 and done.stdout.startswith("line"), done.stderr


@pytest.mark.slow
def test_windows_and_patterns_train_from_the_command_line(tmp_path: Path) -> None:
    options = ("model.n_layers=2", "model.window=8", "model.pattern=[window,full-nope]")
    run = train(tmp_path, "run", *options, "compile=false")
    extrapolation = json.loads((run / "extrapolation.json").read_text())
    assert all(bpb > 0 for figures in extrapolation["methods"].values() for bpb in figures["bpb"])
    done = command_here(
        "generate.py", "checkpoint=run", "prompt=line", "max_new_tokens=40", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    done = command_here(
        "train.py", *SHORT, *options[:2], "model.pattern=[window,full-nop]", cwd=tmp_path
    )
    assert done.returncode == 2 and "try model.pattern=[window,full-nope]" in done.stderr, (
        done.stderr
    )


@pytest.mark.slow
def test_positions_are_dropped_and_changed_with_init_from(tmp_path: Path) -> None:
    """DroPE: train with RoPE, then without positions; what belongs to neither is said."""
    rope = train(tmp_path, "rope", *UNMEASURED)
    nope = train(
        tmp_path, "nope", "init_from=rope", "position=nope", "optimizer.lr=1e-12", *UNMEASURED
    )
    one, other = (network_weights(read_checkpoint(find_checkpoint(run))) for run in (rope, nope))
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=0, atol=1e-6)
    identity = read_checkpoint(find_checkpoint(nope))["ropewalk"]
    assert identity["config"]["position"] == "nope"

    learned = train(
        tmp_path, "learned", "init_from=nope", "position=learned", "model.ssmax=true", *UNMEASURED
    )
    fresh = network_weights(read_checkpoint(find_checkpoint(learned))).keys() - other.keys()
    assert sorted(fresh) == ["blocks.0.attention.ssmax.scale", "position_embedding.weight"]
    again = train(
        tmp_path, "again", "init_from=learned", "position=rope", "model.ssmax=false", *UNMEASURED
    )
    assert network_weights(read_checkpoint(find_checkpoint(again))).keys() == one.keys()


@pytest.mark.slow
def test_random_positions_train_from_the_command_line(tmp_path: Path) -> None:
    run = train(tmp_path, "run", "model.random_positions=256", "model.ssmax=true")
    extrapolation = json.loads((run / "extrapolation.json").read_text())
    assert all(bpb > 0 for bpb in extrapolation["methods"]["none"]["bpb"])
    done = command_here("train.py", *SHORT, "model.random_positions=16", cwd=tmp_path)
    assert done.returncode == 2 and "data.seq_len=32" in done.stderr
