"""When a run saves, what it keeps, and that it goes on from any of these files bit for bit."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, Timer

import checkpoints
from cli.errors import UserError
from common.sealed import is_sealed
from disk import file_size_limit
from runs import Killed, assert_same, checkpoint, fit
from training import Run
from training.callbacks import checkpoints as callback
from training.callbacks.checkpoints import BestAndLast
from training.checkpoint_files import read_checkpoint
from training.kept import candidates, newest_whole
from training.resumable import check_resumable


class Trainer(SimpleNamespace):
    """Steps without training: what BestAndLast asks of Lightning's Trainer."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            **{
                "global_step": 0,
                "max_steps": 1000,
                "accumulate_grad_batches": 2,
                "val_check_batch": 20,
                "enable_validation": True,
                "ckpt_path": None,
                **settings,
            }
        )

    def save_checkpoint(self, path: Path, weights_only: bool) -> None:
        path.write_text(str(self.global_step)) if not path.exists() else replace(path, self)


def replace(path: Path, trainer: Trainer) -> None:
    """As a checkpoint is replaced: by another file of that name."""
    other = path.with_name("new")
    other.write_text(str(trainer.global_step))
    other.replace(path)


def train(kept: BestAndLast, trainer: Trainer, until: int) -> None:
    """Optimizer steps up to `until`, of two micro-batches each."""
    kept.on_train_start(trainer, None)
    while trainer.global_step < until:
        kept.on_train_batch_end(trainer)
        trainer.global_step += 1
        kept.on_train_batch_end(trainer)


def names(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(directory.iterdir())}


def test_every_few_steps_but_where_a_validation_follows(tmp_path: Path, monkeypatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(BestAndLast, "save_last", lambda self, t: saved.append(t.global_step))
    train(BestAndLast(tmp_path, every_n_steps=5), Trainer(), until=32)
    assert saved == [5, 15, 25]  # 10, 20 and 30 end with a validation, which saves
    saved.clear()
    train(BestAndLast(tmp_path, every_n_steps=5), Trainer(max_steps=15), until=15)
    assert saved == [5]
    saved.clear()
    train(BestAndLast(tmp_path, every_n_steps=5), Trainer(enable_validation=False), until=11)
    assert saved == [5, 10]
    saved.clear()
    train(BestAndLast(tmp_path), Trainer(), until=32)
    assert saved == []


def test_history_is_bounded_and_goes_on(tmp_path: Path) -> None:
    kept = BestAndLast(tmp_path, every_n_steps=1, keep_last=3)
    train(kept, Trainer(enable_validation=False), until=2)
    assert names(tmp_path) == {"last.ckpt": "2", "step-00000001.ckpt": "1"}
    train(kept, Trainer(global_step=2, enable_validation=False), until=7)
    history = {"step-00000005.ckpt": "5", "step-00000006.ckpt": "6"}
    assert names(tmp_path) == {"last.ckpt": "7", **history}
    assert kept.saved_step == 7
    resumed = BestAndLast(tmp_path, every_n_steps=1, keep_last=3)
    path = str(tmp_path / "last.ckpt")
    train(resumed, Trainer(global_step=7, ckpt_path=path, enable_validation=False), until=8)
    history = {"step-00000006.ckpt": "6", "step-00000007.ckpt": "7"}
    assert names(tmp_path) == {"last.ckpt": "8", **history}
    fewer = BestAndLast(tmp_path, every_n_steps=1)
    train(fewer, Trainer(global_step=8, ckpt_path=path, enable_validation=False), until=9)
    assert names(tmp_path) == {"last.ckpt": "9"}


def test_another_course_of_the_run_takes_the_place_of_the_first(tmp_path: Path) -> None:
    first = BestAndLast(tmp_path, every_n_steps=1, keep_last=4)
    train(first, Trainer(enable_validation=False), until=4)
    back = BestAndLast(tmp_path, every_n_steps=1, keep_last=4)
    path = str(tmp_path / "step-00000001.ckpt")
    train(back, Trainer(global_step=1, ckpt_path=path, enable_validation=False), until=2)
    assert names(tmp_path) == {"last.ckpt": "2", "step-00000001.ckpt": "1"}


def test_without_hard_links_the_file_is_renamed(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(callback.os, "link", refuse)
    kept = BestAndLast(tmp_path, every_n_steps=1, keep_last=2)
    train(kept, Trainer(enable_validation=False), until=3)
    assert names(tmp_path) == {"last.ckpt": "3", "step-00000002.ckpt": "2"}


def test_a_failed_save_leaves_the_ones_before(tmp_path: Path) -> None:
    def save(path: Path, weights_only: bool) -> None:
        checkpoints.write(path, global_step=trainer.global_step)

    trainer = Trainer(enable_validation=False)
    trainer.save_checkpoint = save
    kept = BestAndLast(tmp_path, every_n_steps=1, keep_last=2)
    train(kept, trainer, until=2)
    with pytest.raises(OSError, match="File too large"), file_size_limit(5000):
        train(kept, trainer, until=3)
    whole = [read_checkpoint(path)["global_step"] for path in candidates(tmp_path)]
    assert whole in ([2, 1], [2, 2, 1])  # the last one may have got its second name
    assert not list(tmp_path.glob("*.part"))


def test_the_order_in_which_they_are_gone_back_to(tmp_path: Path) -> None:
    steps = ("step-00000009.ckpt", "step-00000010.ckpt", "step-123456789.ckpt")
    for name in ("best.ckpt", "last.ckpt", *steps, "step-1.ckpt", "epoch=0-step=3.ckpt"):
        checkpoints.write(tmp_path / name)
    order = ["last.ckpt", *reversed(steps), "best.ckpt"]
    assert [path.name for path in candidates(tmp_path)] == order
    for name, following in zip(order, [*order[1:], None], strict=True):
        (tmp_path / name).write_bytes(b"damaged")
        whole = newest_whole(tmp_path)
        assert (whole and whole.name) == following


@pytest.fixture(scope="module")
def whole(home: Path) -> Run:
    """10 steps, validated every 4, saved every 3, three kept; Lightning's callback beside it."""
    return fit(home, "whole", *OPTIONS)


CK = "+callbacks.ck."
OPTIONS = (
    "checkpoints.every_n_steps=3",
    "checkpoints.keep_last=3",
    "trainer.val_check_interval=4",
    f"{CK}_target_=lightning.pytorch.callbacks.ModelCheckpoint",
    f"{CK}every_n_train_steps=3",
    f"{CK}save_top_k=-1",
    # The names of the run's own, where the two would take each other's files.
    f'{CK}filename="step-{{step:08d}}"',
    f"{CK}auto_insert_metric_name=false",
    f"{CK}save_last=link",
)


def test_what_a_run_leaves(whole: Run) -> None:
    directory = whole.directory / "checkpoints"
    paths = {str(path.relative_to(directory)): path for path in directory.rglob("*.ckpt")}
    steps = {name: read_checkpoint(path)["global_step"] for name, path in paths.items()}
    best = steps.pop("best.ckpt")
    own = {f"ck/step-0000000{step}.ckpt": step for step in (3, 6, 9)} | {"ck/last.ckpt": 9}
    assert best in (4, 8, 10)
    assert steps == {"last.ckpt": 10, "step-00000008.ckpt": 8, "step-00000009.ckpt": 9, **own}
    assert all(is_sealed(path) for path in paths.values())
    assert not (directory / "last.ckpt").is_symlink()
    assert any(isinstance(one, ModelCheckpoint) for one in whole.trainer.callbacks)
    assert {path.name for path in whole.directory.iterdir()} == {
        *(".hydra", ".lock", "checkpoints", "environment.json", "metrics.jsonl")
    }


@pytest.mark.parametrize("name", ["step-00000009", "ck/step-00000006"])
def test_a_run_goes_on_from_each_of_them_bit_for_bit(home: Path, whole: Run, name: str) -> None:
    before = checkpoint(whole.directory)
    path = whole.directory / f"checkpoints/{name}.ckpt"
    resumed = fit(home, "whole", f"resume='{path}'", "checkpoints.every_n_steps=null")
    assert_same(checkpoint(whole.directory), before)
    lines = (whole.directory / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines].count(10) == 2  # training, validation
    assert resumed.best.saved_step == 10


@pytest.mark.slow
def test_a_run_that_was_killed_between_validations_goes_on_from_there(
    home: Path, whole: Run
) -> None:
    with pytest.raises(Killed):
        fit(home, "killed", *OPTIONS[:3], stop=6)
    assert checkpoint(home / "killed")["global_step"] == 6
    fit(home, "killed", f"resume={home / 'killed'}")
    assert_same(checkpoint(home / "killed"), checkpoint(whole.directory))


WRONG = [
    ("loops", {"fit_loop": {}}, "loops.fit_loop.state_dict: is missing"),
    ("loops", {"fit_loop": 5}, "loops.fit_loop: must be a dict"),
    ("state_dict", {"net.norm.weight": torch.ones(2)}, "state_dict.net.embedding.weight: is miss"),
    ("optimizer_states", ["text"], "optimizer_states.0: must be a dict"),
    ("optimizer_states", [{"state": {}, "param_groups": []}], "param_groups: must be a list of 2"),
    ("lr_schedulers", [{"base_lrs": "x"}], "lr_schedulers.0"),
    ("callbacks", {"BestAndLast": {"loss": "x", "bpb": 1.0, "step": 1}}, ".loss: 'x' is wrong"),
    ("callbacks", {"BestAndLast": {"loss": 1.0}}, "callbacks.BestAndLast.bpb: is missing"),
]


@pytest.mark.parametrize(("key", "value", "reason"), WRONG, ids=lambda v: str(v)[:30])
def test_a_checkpoint_that_lightning_could_not_restore(
    whole: Run, key: str, value: object, reason: str
) -> None:
    contents = checkpoint(whole.directory)
    check_resumable(contents, whole.trainer, whole.module, "resume=x")
    contents[key] = value
    with pytest.raises(ValueError, match=r"^resume=x: is not of this run: ") as error:
        check_resumable(contents, whole.trainer, whole.module, "resume=x")
    assert reason in str(error.value)


def test_the_states_of_other_peoples_callbacks_are_theirs_to_judge(whole: Run, monkeypatch) -> None:
    timed = [*whole.trainer.callbacks, Timer("00:00:00:01")]  # as trainer.max_time adds it
    monkeypatch.setattr(whole.trainer, "callbacks", timed)
    contents = checkpoint(whole.directory)
    contents["callbacks"]["Timer"] = {"time_elapsed": {"train": 1.13, "sanity_check": 0}}
    check_resumable(contents, whole.trainer, whole.module, "resume=x")


def test_no_other_callback_saves_among_the_runs_own(home: Path) -> None:
    options = (*OPTIONS[3:4], f"{CK}dirpath={home / 'mixed/checkpoints'}")
    with pytest.raises(UserError, match=r"callbacks\.ck\.dirpath=.*; leave it out for .*/ck$"):
        fit(home, "mixed", *options)


def test_moments_of_another_shape_are_refused_before_the_run_begins(home: Path, whole: Run) -> None:
    path = home / "whole/checkpoints/wrong.ckpt"
    contents = checkpoint(whole.directory)
    contents["optimizer_states"][0]["state"][0]["exp_avg"] = torch.ones(3)
    whole.trainer.strategy.checkpoint_io.save_checkpoint(contents, path)
    with pytest.raises(UserError, match=r"state.0.exp_avg: must be a tensor of shape"):
        fit(home, "whole", f"resume={path}")
