"""A run that was interrupted and resumed equals the one that was not, bit for bit on a CPU."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from commands import TINY, command, command_here, write_text

# With dropout and accumulation: random numbers and micro-batches must resume as well.
OPTIONS = (
    *TINY,
    "model.dropout=0.2",
    "trainer.accumulate_grad_batches=2",
    "trainer.val_check_interval=5",
    "data.path=text.txt",
    "callbacks=none",
    "evaluation.lengths=[32,64]",
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
    for figures in (*cut["methods"].values(), *whole["methods"].values()):
        del figures["tokens_per_second"]  # the machine's
    assert cut["methods"] == whole["methods"]


def test_event_files_have_every_step_once(resumed: Path) -> None:
    accumulator = EventAccumulator(str(resumed / "cut/tensorboard"), size_guidance={"scalars": 0})
    steps = [event.step for event in accumulator.Reload().Scalars("train/loss")]
    assert steps == list(range(1, 21))


def test_a_wrong_random_number_would_be_seen(home: Path, monkeypatch) -> None:
    """Negative control: the lost run resumed without the seeding of dropout ends elsewhere."""
    shutil.copytree(home / "lost", home / "unseeded")
    (home / "unseed.py").write_text(
        "import lightning as L\nimport torch\n\n"
        "class Unseed(L.Callback):\n"
        "    def on_before_zero_grad(self, *_):\n"
        "        torch.manual_seed(0)\n"
        "    def setup(self, trainer, pl_module, stage):\n"
        "        pl_module.on_train_batch_start = lambda batch, batch_idx: (\n"
        "            pl_module.step_losses.clear() if batch_idx % 2 == 0 else None)\n"
    )
    extra = ("resume=unseeded", "+callbacks.unseed._target_=unseed.Unseed")
    monkeypatch.syspath_prepend(home)
    done = command_here("train.py", *extra, cwd=home)
    assert done.returncode == 0, done.stderr
    assert metrics(home / "unseeded") != metrics(home / "whole")


def test_the_backend_may_change_and_the_options_of_the_run_stay(home: Path) -> None:
    shutil.copytree(home / "lost", home / "switched")
    done = command_here(
        "train.py", "resume=switched", "rope=triton", "rope.fused_projection=false", cwd=home
    )
    assert done.returncode == 0, done.stderr
    config = OmegaConf.load(home / "switched/.hydra/config.yaml")
    assert config.rope.backend == "triton"
    assert (config.model.dropout, config.trainer.max_steps) == (0.2, 20)


@pytest.mark.parametrize(
    "change", ["model=nano", "optimizer.lr=1e-6", "trainer.accumulate_grad_batches=1", "seed=5"]
)
def test_what_cannot_change_half_way_is_refused(home: Path, change: str) -> None:
    done = command_here("train.py", "resume=lost", change, cwd=home)
    assert done.returncode == 2 and "cannot change half-way" in done.stderr


def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(home: Path) -> None:
    (home / "early/.hydra").mkdir(parents=True)
    (home / "early/metrics.jsonl").write_text('{"step": 1, "train/loss": 99.0}\n')
    done = command_here("train.py", *OPTIONS, "run_dir=early", "resume=auto", cwd=home)
    assert done.returncode == 0, done.stderr
    assert metrics(home / "early") == metrics(home / "whole")


def test_a_run_that_ended_before_its_results_gets_them(resumed: Path) -> None:
    shutil.copytree(resumed / "whole", resumed / "unmeasured")
    (resumed / "unmeasured/results.json").unlink()
    done = command_here("train.py", "resume=unmeasured", cwd=resumed)
    assert done.returncode == 0, done.stderr
    again, whole = (
        json.loads((resumed / run / "results.json").read_text()) for run in ("unmeasured", "whole")
    )
    for key in ("val/loss", "val/loss_last", "train/loss", "steps", "tokens"):
        assert again[key] == whole[key], key


def test_resume_auto_finds_the_run_and_takes_changes(home: Path) -> None:
    named = home / "runs/text-pytorch/20260101-000000"
    shutil.copytree(home / "lost", named)
    done = command_here("train.py", *OPTIONS, "resume=auto", "trainer.max_steps=24", cwd=home)
    assert done.returncode == 0, done.stderr
    assert json.loads((named / "results.json").read_text())["steps"] == 24


def test_a_changed_model_is_refused(home: Path) -> None:
    done = command_here("train.py", "resume=lost", "model.d_model=64", cwd=home)
    assert done.returncode == 2
    assert "model.d_model=64" in done.stderr and "32" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_finished_run_is_refused(resumed: Path) -> None:
    done = command_here("train.py", "resume=whole", cwd=resumed)
    assert done.returncode == 2 and "already at step 20 of 20" in done.stderr


def test_another_text_is_refused(home: Path) -> None:
    shutil.copytree(home / "lost", home / "moved")
    write_text(home / "other.txt", lines=1201)
    done = command_here("train.py", "resume=moved", "data.path=other.txt", cwd=home)
    assert done.returncode == 2 and "the text is another one" in done.stderr


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_stops_the_run_and_says_how_to_go_on(number: int, tmp_path: Path) -> None:
    write_text(tmp_path / "text.txt")
    (tmp_path / "signaller.py").write_text(
        "import os\nimport signal\nimport lightning as L\n\n"
        # As in a terminal; where tests run in a shell's background, it is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n\n"
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
