"""A run that was interrupted and resumed equals the one that was not, bit for bit on a CPU."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from commands import TINY, command, write_text
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# With dropout and accumulation: random numbers and micro-batches must resume as well.
OPTIONS = (
    *TINY,
    "model.dropout=0.2",
    "trainer.accumulate_grad_batches=2",
    "trainer.val_check_interval=5",
    "data.path=text.txt",
    "callbacks=none",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run in `whole`, and one in `cut` that ended at step 10 without knowing."""
    home = tmp_path_factory.mktemp("resume")
    write_text(home / "text.txt")
    done = command("train.py", *OPTIONS, "run_dir=whole", cwd=home)
    assert done.returncode == 0, done.stderr
    # Killed by a bug of the user's callback at step 13, after the checkpoint of step 10.
    killer = "+callbacks.killer._target_=killer.Killer"
    (home / "killer.py").write_text(
        "import os\nimport lightning as L\n\n"
        "class Killer(L.Callback):\n"
        "    def on_train_batch_end(self, trainer, *_):\n"
        "        if trainer.global_step == 13:\n"
        "            os.kill(os.getpid(), 9)\n"
    )
    killed = command("train.py", *OPTIONS, killer, "run_dir=cut", cwd=home, python_path=home)
    assert killed.returncode == -9, killed.stderr
    shutil.copytree(home / "cut", home / "lost")
    return home


@pytest.fixture(scope="module")
def resumed(home: Path) -> Path:
    done = command("train.py", "resume=cut", cwd=home)
    assert done.returncode == 0, done.stderr
    return home


def metrics(run: Path) -> list[dict]:
    """The lines of metrics.jsonl, without how fast the machine was."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "train/tokens_per_second"} for line in lines]


def test_metrics_are_the_same_lines(resumed: Path) -> None:
    assert metrics(resumed / "cut") == metrics(resumed / "whole")
    assert len(metrics(resumed / "whole")) == 20 + 4


def test_weights_and_optimizer_are_the_same_bits(resumed: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        cut, whole = (
            torch.load(resumed / run / "checkpoints" / name, weights_only=True)
            for run in ("cut", "whole")
        )
        for key, value in whole["state_dict"].items():
            assert torch.equal(cut["state_dict"][key], value), key
        for one, other in zip(cut["optimizer_states"], whole["optimizer_states"], strict=True):
            for index, state in one["state"].items():
                for key, value in state.items():
                    assert torch.equal(value, other["state"][index][key]), (index, key)


def test_results_and_extrapolation_are_the_same(resumed: Path) -> None:
    cut, whole = (
        json.loads((resumed / run / "results.json").read_text()) for run in ("cut", "whole")
    )
    for key in ("val/loss", "val/bpb", "val/loss_last", "train/loss", "steps", "best_step"):
        assert cut[key] == whole[key], key
    cut, whole = (
        json.loads((resumed / run / "extrapolation.json").read_text()) for run in ("cut", "whole")
    )
    assert cut["methods"] == whole["methods"]


def test_event_files_have_every_step_once(resumed: Path) -> None:
    accumulator = EventAccumulator(str(resumed / "cut/tensorboard"), size_guidance={"scalars": 0})
    steps = [event.step for event in accumulator.Reload().Scalars("train/loss")]
    assert steps == list(range(1, 21))


def test_without_the_dropout_seed_the_runs_differ(home: Path) -> None:
    """Negative control: the comparison above would see another random number."""
    done = command("train.py", *OPTIONS, "seed=1", "run_dir=other", cwd=home)
    assert done.returncode == 0, done.stderr
    assert metrics(home / "other") != metrics(home / "whole")


def test_resume_auto_finds_the_run_and_takes_changes(home: Path) -> None:
    named = home / "runs/text-pytorch/20260101-000000"
    shutil.copytree(home / "lost", named)
    done = command("train.py", *OPTIONS, "resume=auto", "trainer.max_steps=24", cwd=home)
    assert done.returncode == 0, done.stderr
    assert json.loads((named / "results.json").read_text())["steps"] == 24


def test_a_changed_model_is_refused(home: Path) -> None:
    done = command("train.py", "resume=lost", "model.d_model=64", cwd=home)
    assert done.returncode == 2
    assert "model.d_model=64" in done.stderr and "32" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_finished_run_is_refused(resumed: Path) -> None:
    done = command("train.py", "resume=whole", cwd=resumed)
    assert done.returncode == 2 and "already at step 20 of 20" in done.stderr


def test_another_text_is_refused(home: Path) -> None:
    shutil.copytree(home / "lost", home / "moved")
    write_text(home / "other.txt", lines=1201)
    done = command("train.py", "resume=moved", "data.path=other.txt", cwd=home)
    assert done.returncode == 2 and "data.path=other.txt" in done.stderr
    shutil.copy(home / "text.txt", home / "kept.txt")
    try:
        shutil.copy(home / "other.txt", home / "text.txt")  # other content under the same path
        done = command("train.py", "resume=moved", cwd=home)
    finally:
        shutil.copy(home / "kept.txt", home / "text.txt")
    assert done.returncode == 2 and "the text is another one" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_and_says_how_to_go_on(number: int, tmp_path: Path) -> None:
    write_text(tmp_path / "text.txt")
    (tmp_path / "signaller.py").write_text(
        "import os\nimport lightning as L\n\n"
        "class Signaller(L.Callback):\n"
        "    def on_train_batch_end(self, trainer, *_):\n"
        "        if trainer.global_step == 7:\n"
        f"            os.kill(os.getpid(), {int(number)})\n"
    )
    extra = ("+callbacks.signaller._target_=signaller.Signaller", "run_dir=run")
    stopped = command("train.py", *OPTIONS, *extra, cwd=tmp_path, python_path=tmp_path)
    assert stopped.returncode == 128 + number
    assert "resume=run" in stopped.stderr and "Traceback" not in stopped.stderr
    assert json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])["step"] >= 5
