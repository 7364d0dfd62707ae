"""A run that was interrupted and resumed equals the one that was not, bit for bit on a CPU."""

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from commands import TINY, command_here, write_text

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
    """A finished run in `whole`, and one in `lost` that was stopped at step 13."""
    home = tmp_path_factory.mktemp("resume")
    write_text(home / "text.txt")
    done = command_here("train.py", *OPTIONS, "run_dir=whole", cwd=home)
    assert done.returncode == 0, done.stderr
    (home / "signaller.py").write_text(
        "import os\nimport lightning as L\n\n"
        "class Signaller(L.Callback):\n"
        "    def on_train_batch_end(self, trainer, *_):\n"
        "        if trainer.global_step == 13:\n"
        "            os.kill(os.getpid(), 15)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(home)
        extra = "+callbacks.signaller._target_=signaller.Signaller"
        done = command_here("train.py", *OPTIONS, extra, "run_dir=lost", cwd=home)
    assert done.returncode == 143, done.stderr
    assert "step 13 is saved; go on with: python train.py resume=lost" in done.stderr
    return home


def metrics(run: Path) -> list[dict]:
    """The lines of metrics.jsonl, without how fast the machine was."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "train/tokens_per_second"} for line in lines]


@pytest.mark.slow
def test_a_resumed_run_logs_the_same_lines(home: Path) -> None:
    """What else is the same: tests/reliability/test_kills.py."""
    shutil.copytree(home / "lost", home / "cut")
    done = command_here("train.py", "resume=cut", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "resumed  at step 13" in done.stdout
    assert metrics(home / "cut") == metrics(home / "whole")
    assert len(metrics(home / "whole")) == 20 + 4


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(home: Path) -> None:
    (home / "early/.hydra").mkdir(parents=True)
    (home / "early/metrics.jsonl").write_text('{"step": 1, "train/loss": 99.0}\n')
    done = command_here("train.py", *OPTIONS, "run_dir=early", "resume=auto", cwd=home)
    assert done.returncode == 0, done.stderr
    assert metrics(home / "early") == metrics(home / "whole")


@pytest.mark.slow
def test_a_run_that_ended_before_its_results_gets_them(home: Path) -> None:
    shutil.copytree(home / "whole", home / "unmeasured")
    (home / "unmeasured/results.json").unlink()
    done = command_here("train.py", "resume=unmeasured", cwd=home)
    assert done.returncode == 0, done.stderr
    again, whole = (
        json.loads((home / run / "results.json").read_text()) for run in ("unmeasured", "whole")
    )
    for key in ("val/loss", "val/loss_last", "train/loss", "steps", "tokens"):
        assert again[key] == whole[key], key


@pytest.mark.slow
def test_resume_auto_finds_the_run_and_takes_changes(home: Path) -> None:
    named = home / "runs/text-nano-pytorch/20260101-000000"
    shutil.copytree(home / "lost", named)
    more = ("rope=pytorch", "resume=auto", "trainer.max_steps=24")
    done = command_here("train.py", *OPTIONS, *more, cwd=home)
    assert done.returncode == 0, done.stderr
    assert json.loads((named / "results.json").read_text())["steps"] == 24


def test_a_changed_model_is_refused(home: Path) -> None:
    done = command_here("train.py", "resume=lost", "model.d_model=64", cwd=home)
    assert done.returncode == 2
    assert "model.d_model=64" in done.stderr and "32" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_finished_run_is_refused(home: Path) -> None:
    done = command_here("train.py", "resume=whole", cwd=home)
    assert done.returncode == 2 and "already at step 20 of 20" in done.stderr


def test_another_text_is_refused(home: Path) -> None:
    shutil.copytree(home / "lost", home / "moved")
    write_text(home / "other.txt", lines=1201)
    done = command_here("train.py", "resume=moved", "data.path=other.txt", cwd=home)
    assert done.returncode == 2 and "the text is another one" in done.stderr
