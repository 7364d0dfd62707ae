"""A run is built before its directory is made; one that cannot begin leaves nothing."""

from pathlib import Path
from unittest import mock

import lightning as L
import pytest
from hydra import compose, initialize_config_dir
from lightning.pytorch.loggers import CSVLogger

from cli.leftovers import Leftovers
from cli.overrides import Overrides
from cli.place import Placed
from cli.plan import plan_run
from commands import ROOT, TINY, command_here, write_text
from common.lock import release_all
from runs import Killed, fit
from training.prepare import prepare

OPTIONS = (*TINY, "data.path=text.txt", "trainer.max_steps=2", "trainer.val_check_interval=1")
SHORT = ("data.val_tokens=65", "evaluation.lengths=[32]", "evaluation.methods=[none]")


class FailsAtItsStart(L.Callback):
    """Writes, and fails where Lightning calls it first."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        (Path(trainer.default_root_dir) / "written").write_text("")
        raise ValueError("no\nsense")


class FailsInItsSteps(L.Callback):
    """A bug of the user's."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == 2:
            raise ValueError("a bug")


class MakesItsDirectory(CSVLogger):
    """A logger that writes where it is made, and then cannot be made."""

    def __init__(self, save_dir: str) -> None:
        Path(save_dir, "logs").mkdir(parents=True)
        super().__init__(save_dir)
        raise ImportError("no such package")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_text(tmp_path / "text.txt")
    return tmp_path


def left(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir() if path.name not in ("cache", "text.txt"))


@pytest.mark.parametrize(
    ("run_dir", "part", "said"),
    [
        ("null", f"callbacks.x._target_={__name__}.FailsAtItsStart", "callbacks.x: no;"),
        ("mine", f"callbacks.x._target_={__name__}.FailsAtItsStart", "callbacks.x: no;"),
        ("runs/a/b", f"logger.x._target_={__name__}.MakesItsDirectory", "(no such package)"),
    ],
)
def test_what_cannot_begin_leaves_nothing(run_dir: str, part: str, said: str, home: Path) -> None:
    (home / "mine").mkdir()
    (home / "mine/notes.txt").write_text("mine")
    done = command_here("train.py", *OPTIONS, f"run_dir={run_dir}", f"+{part}", cwd=home)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
    assert left(home) == ["mine"]
    assert [path.name for path in (home / "mine").iterdir()] == ["notes.txt"]


def test_what_was_trained_stays_and_a_bug_is_shown(home: Path) -> None:
    part = f"+callbacks.x._target_={__name__}.FailsInItsSteps"
    with pytest.raises(ValueError, match="a bug"):
        command_here("train.py", *OPTIONS, *SHORT, "run_dir=run", part, cwd=home)
    assert (home / "run/checkpoints/last.ckpt").is_file()


def test_null_is_a_run_without_it_and_a_profile_is_written(home: Path) -> None:
    without = ("callbacks.samples=null", "logger.tensorboard=null", "trainer.profiler=simple")
    done = command_here("train.py", *OPTIONS, *SHORT, *without, "run_dir=run", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "run_training_epoch" in (home / "run/fit-simple.txt").read_text()
    names = {path.name for path in (home / "run").iterdir()}
    assert "results.json" in names and "samples.txt" not in names
    assert not list((home / "run/tensorboard").glob("events*"))


def test_what_others_have_brought_meanwhile_stays(tmp_path: Path) -> None:
    leftovers = Leftovers(tmp_path / "runs/name/one")
    (tmp_path / "runs/name/one").mkdir(parents=True)
    (tmp_path / "runs/name/two").mkdir()
    leftovers.remove()
    assert [path.name for path in (tmp_path / "runs/name").iterdir()] == ["two"]


def test_a_run_that_goes_further_is_unfinished_before_its_config_is_written(home: Path) -> None:
    run = fit(home, "a", "trainer.max_steps=2")
    assert {"trainer.max_steps", "run_dir", "model.d_model"} <= set(run.typed)
    run.write_results(1.0)
    asked = [f"resume={run.directory}", "trainer.max_steps=4"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        today = compose("train", asked)
    release_all()
    plan = plan_run(today, Overrides(asked))
    there: list[bool] = []

    def killed(directory: Path, *_: object) -> None:
        there.append((directory / "results.json").exists())
        raise Killed

    with mock.patch("cli.place.save_config", killed), pytest.raises(Killed):
        Placed(plan, prepare(plan.config, plan.checkpoint), Overrides(asked))
    release_all()
    assert there == [False]
    assert plan_run(today, Overrides(asked)).checkpoint == plan.checkpoint
    release_all()
