"""SIGTERM, SIGINT and SIGHUP: the step in hand is finished and saved, and nothing is lost."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import lightning as L
import pytest

from cli.errors import UserError
from commands import write_text
from common.signals import Request, Stopped, raised
from runs import assert_same, checkpoint, fit
from training.callbacks.stop import requeue

MANY = ("data.val_tokens=400",)  # four batches in a validation


class Signaller(L.Callback):
    """Sends a signal to its own process in the `call`-th call of a hook."""

    def __init__(self, hook: str, call: int, number: int = signal.SIGTERM) -> None:
        self.calls, self.call, self.number = 0, call, number
        setattr(self, hook, self._count)

    def _count(self, *_: object) -> None:
        self.calls += 1
        if self.calls == self.call:
            os.kill(os.getpid(), self.number)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("stop")
    write_text(home / "text.txt")
    fit(home, "whole", *MANY)
    return home


def lines(run: Path) -> list[dict]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "train/tokens_per_second"} for line in found]


@pytest.mark.parametrize(
    ("hook", "call", "step"),
    [
        pytest.param("on_train_start", 1, 1, marks=pytest.mark.slow),
        ("on_train_batch_start", 7, 4),  # of two micro-batches a step; a validation is due at 4
        pytest.param("on_train_batch_end", 6, 3, marks=pytest.mark.slow),
        pytest.param("on_before_optimizer_step", 5, 5, marks=pytest.mark.slow),
        ("on_validation_batch_start", 6, 4),
        pytest.param("on_validation_end", 2, 4, marks=pytest.mark.slow),
        ("on_train_end", 1, 10),  # when no step is left
        ("on_train_batch_end", 20, 10),  # after the last step, whose validation is finished
    ],
)
def test_it_loses_no_step_and_ends_like_the_one_that_was_left_alone(
    home: Path, hook: str, call: int, step: int
) -> None:
    name = f"{hook}-{call}"
    with pytest.raises(Stopped) as stop:
        fit(home, name, *MANY, callback=Signaller(hook, call))
    assert (stop.value.status, stop.value.number) == (143, signal.SIGTERM)
    assert f"step {step} is saved; go on with: python train.py" in str(stop.value)
    assert checkpoint(home / name)["global_step"] == step
    fit(home, name, *MANY, "resume=auto", f"run_dir={home / name}")
    assert_same(checkpoint(home / name), checkpoint(home / "whole"))
    assert_same(checkpoint(home / name, "best"), checkpoint(home / "whole", "best"))
    assert lines(home / name) == lines(home / "whole")


@pytest.mark.slow
def test_an_owed_validation_that_is_not_done_would_be_seen(home: Path, monkeypatch) -> None:
    """Negative control: Lightning goes on with the next step."""
    with pytest.raises(Stopped):
        fit(home, "owing", *MANY, callback=Signaller("on_validation_batch_start", 6))
    monkeypatch.setattr("training.callbacks.validation._validate", lambda trainer: None)
    fit(home, "owing", *MANY, "resume=auto", f"run_dir={home / 'owing'}")
    assert lines(home / "owing") != lines(home / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_do_the_same(home: Path, number: signal.Signals) -> None:
    with pytest.raises(Stopped, match=f"stopped by {number.name}; step 2 is saved") as stop:
        fit(home, number.name, callback=Signaller("on_train_batch_end", 3, number))
    assert stop.value.status == 128 + number


def test_slurm_is_asked_to_start_the_job_again(home: Path, tmp_path: Path, monkeypatch) -> None:
    asked = tmp_path / "asked"
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {asked}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job = {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1"}
    job |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Stopped, match=r"step 2 is saved; go on with: .*; job 77 is requeued"):
        fit(home, "slurm", callback=Signaller("on_train_batch_end", 3, signal.SIGUSR1))
    assert asked.read_text() == "requeue 77\n"
    assert not list((home / "slurm").glob("*.ckpt"))  # Lightning's own way


def test_a_refused_requeue_is_said(monkeypatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("PATH", "")
    assert requeue() == "job 5_3 cannot be requeued: there is no scontrol"


def test_a_second_signal_ends_the_process_at_once(capfd) -> None:
    child = os.fork()
    if child == 0:
        request = Request("something long is finished")
        with request.awaited():
            os.kill(os.getpid(), signal.SIGTERM)
            assert request.number == signal.SIGTERM
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    assert "SIGTERM: something long is finished; once more" in capfd.readouterr().err


def test_handlers_are_given_back_and_nohup_is_respected() -> None:
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(Stopped), raised():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_that_had_ended_early_is_not_trained_on(home: Path) -> None:
    """Stopped in its evaluation, say: it goes on with that. With other limits it trains."""

    class Enough(L.Callback):
        def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            trainer.should_stop = trainer.global_step == 4

    fit(home, "early", callback=Enough())
    assert checkpoint(home / "early")["global_step"] == 4
    before = lines(home / "early")
    fit(home, "early", "resume=auto", f"run_dir={home / 'early'}")
    assert checkpoint(home / "early")["global_step"] == 4 and lines(home / "early") == before
    fit(home, "early", "resume=auto", f"run_dir={home / 'early'}", "trainer.max_steps=12")
    assert checkpoint(home / "early")["global_step"] == 12


def test_a_last_step_that_is_not_validated_is_no_end(home: Path) -> None:
    with pytest.raises(Stopped):
        fit(home, "short", callback=Signaller("on_train_batch_end", 1))
    with pytest.raises(UserError, match=r"at step 1, which it has not validated; .*max_steps=2"):
        fit(home, "short", f"resume={home / 'short'}", "trainer.max_steps=1")


@pytest.mark.slow
def test_a_signal_to_all_processes_of_a_group_reaches_no_worker(home: Path) -> None:
    class ToWorkers(Signaller):
        def _count(self, *_: object) -> None:
            super()._count()
            if self.calls == self.call:
                for child in multiprocessing.active_children():
                    os.kill(child.pid, signal.SIGTERM)

    with pytest.raises(Stopped, match="step 3 is saved"):
        fit(home, "group", "data.num_workers=1", callback=ToWorkers("on_train_batch_end", 5))


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_run_in_a_line(home: Path) -> None:
    class Kill(L.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(ChildProcessError, match=r"data.num_workers: .* go on with: python train"):
        fit(home, "dead", "data.num_workers=1", callback=Kill())
