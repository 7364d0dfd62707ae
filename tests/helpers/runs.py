"""A run in this process, as train.py makes it, that can be killed and resumed."""

from pathlib import Path

import lightning as L
import torch
from hydra import compose, initialize_config_dir

from cli.overrides import Overrides
from cli.place import Placed
from cli.plan import plan_run
from commands import ROOT, TINY
from common.lock import release_all
from training import Run
from training.checkpoint_files import read_checkpoint
from training.prepare import prepare

SETTINGS = (
    *TINY,
    "callbacks=none",
    "logger=none",
    "rope=pytorch",
    "model.dropout=0.2",
    "trainer.accelerator=cpu",
    "trainer.accumulate_grad_batches=2",
    "trainer.max_steps=10",
    "trainer.val_check_interval=2",
    "data.val_tokens=65",
)


class Killed(Exception):
    """A bug of the user's callback."""


class Killer(L.Callback):
    """Ends a run in the step after `step`, whose checkpoint is the last one then."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step > self.step:
            raise Killed


def fit(
    home: Path,
    name: str,
    *options: str,
    stop: int | None = None,
    callback: L.Callback | None = None,
) -> Run:
    """Train the run `name` in `home` on its text.txt; `stop`: its last step."""
    release_all()  # of the run before this one, as the end of its process does
    overrides = [*SETTINGS, f"data.path={home / 'text.txt'}", *options]
    if not any(option.startswith("resume=") for option in options):
        overrides.append(f"run_dir={home / name}")
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        plan = plan_run(compose("train", overrides), Overrides(overrides))
    prepared = prepare(plan.config, plan.checkpoint)
    if callback is not None:
        prepared.callbacks.append(callback)
    if stop is not None:
        prepared.callbacks.append(Killer(stop))
    run = Placed(plan, prepared, Overrides(overrides)).run
    run.fit()
    return run


def checkpoint(directory: Path, name: str = "last") -> dict:
    """What a run's checkpoint holds."""
    return read_checkpoint(directory / f"checkpoints/{name}.ckpt")


def assert_same(cut: dict, uncut: dict) -> None:
    """Two checkpoints have the same step, weights and state of the optimizer, bit for bit."""
    assert cut["global_step"] == uncut["global_step"]
    for key, value in uncut["state_dict"].items():
        assert torch.equal(cut["state_dict"][key], value), key
    for one, two in zip(cut["optimizer_states"], uncut["optimizer_states"], strict=True):
        for index, state in one["state"].items():
            assert all(torch.equal(v, two["state"][index][k]) for k, v in state.items())
