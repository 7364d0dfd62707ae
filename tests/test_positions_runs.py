"""Runs with every way of knowing positions: trained, measured, continued, as a user does it."""

import json
from pathlib import Path

import pytest
from commands import TINY, command, write_text

SHORT = (*TINY, "data.path=text.txt", "trainer.max_steps=4", "trainer.val_check_interval=4")


def train(home: Path, name: str, *options: str) -> Path:
    """The directory of a run of a few steps."""
    if not (home / "text.txt").exists():
        write_text(home / "text.txt")
    done = command("train.py", *SHORT, *options, f"run_dir={name}", cwd=home)
    assert done.returncode == 0, done.stderr
    return home / name


@pytest.mark.parametrize("position", ["alibi", "sinusoidal"])
def test_a_run_trains_measures_and_generates(position: str, tmp_path: Path) -> None:
    run = train(tmp_path, "run", f"position={position}")
    extrapolation = json.loads((run / "extrapolation.json").read_text())
    assert all(bpb > 0 for bpb in extrapolation["methods"]["none"]["bpb"])  # at 8 x too
    done = command("generate.py", "checkpoint=run", "prompt=line", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("line"), done.stderr


def test_learned_positions_end_where_training_did(tmp_path: Path) -> None:
    run = train(tmp_path, "run", "position=learned")
    extrapolation = json.loads((run / "extrapolation.json").read_text())
    assert extrapolation["lengths"] == [32, 64, 128, 256]
    assert extrapolation["methods"]["none"]["bpb"][1:] == [None] * 3
    reason = extrapolation["reasons"]["none"]["64"]
    assert "do not extrapolate" in reason
    assert (run / "samples.txt").read_text()
    done = command("generate.py", "checkpoint=run", "prompt=line", cwd=tmp_path)
    assert done.returncode == 2
    assert "error: max_new_tokens=400" in done.stderr and "Traceback" not in done.stderr
    done = command(
        "generate.py", "checkpoint=run", "prompt=line", "max_new_tokens=29", cwd=tmp_path
    )
    assert done.returncode == 0 and done.stdout.startswith("line"), done.stderr


def test_windows_and_patterns_train_from_the_command_line(tmp_path: Path) -> None:
    options = ("model.n_layers=2", "model.window=8", "model.pattern=[window,full-nope]")
    run = train(tmp_path, "run", *options, "compile=false")
    extrapolation = json.loads((run / "extrapolation.json").read_text())
    assert all(bpb > 0 for figures in extrapolation["methods"].values() for bpb in figures["bpb"])
    done = command(
        "generate.py", "checkpoint=run", "prompt=line", "max_new_tokens=40", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    done = command(
        "train.py", *SHORT, *options[:2], "model.pattern=[window,full-nop]", cwd=tmp_path
    )
    assert done.returncode == 2 and "try model.pattern=[window,full-nope]" in done.stderr, (
        done.stderr
    )
