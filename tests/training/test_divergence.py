"""NaN and infinity stop a run before the optimizer step, wherever they are first met."""

import math
from pathlib import Path

import lightning as L
import pytest
import torch

from commands import write_text
from runs import checkpoint, fit
from training.divergence import Diverged, Watch


class Poison(L.Callback):
    """Makes something of step `step` infinite."""

    def __init__(self, what: str, step: int) -> None:
        self.what, self.step = what, step

    def on_train_batch_start(self, trainer: L.Trainer, module, batch, index: int) -> None:
        if index == 2 * self.step - 1 and self.what == "loss":  # the second micro-batch
            module.training_loss = lambda logits, targets: logits.sum() * math.nan

    def on_before_optimizer_step(self, trainer: L.Trainer, module, optimizer) -> None:
        if trainer.global_step + 1 == self.step and self.what == "gradient":
            next(module.net.parameters()).grad[0, 0] = math.inf

    def on_validation_start(self, trainer: L.Trainer, module) -> None:
        if trainer.global_step == self.step and self.what == "weight":
            with torch.no_grad():
                next(module.net.parameters())[0, 0] = math.nan


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("divergence")
    write_text(home / "text.txt")
    return home


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("loss", "train/loss=nan at step 6 (micro-batch 2 of 2, seed=3)"),
        ("gradient", "train/grad_norm=inf at step 6 (its losses are finite, seed=3)"),
        ("weight", "val/loss=nan at step 6 (seed=3)"),
    ],
)
def test_the_run_stops_there_and_its_checkpoints_are_whole(
    home: Path, what: str, said: str
) -> None:
    # Metrics are logged at other steps, so that only the watch can see it.
    options = ("seed=3", "trainer.log_every_n_steps=100")
    with pytest.raises(Diverged) as error:
        fit(home, what, *options, callback=Poison(what, 6))
    assert said in str(error.value) and "try a lower optimizer.lr" in str(error.value)
    for name in ("best", "last"):
        saved = checkpoint(home / what, name)
        assert saved["global_step"] == 4
        assert all(weights.isfinite().all() for weights in saved["state_dict"].values())


def test_a_step_with_wrong_numbers_is_not_taken() -> None:
    """On a CPU at once; on a GPU the fused optimizer leaves it out, and the next one is refused."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weight = torch.nn.Parameter(torch.ones(3, device=device))
    optimizer = torch.optim.AdamW([weight], fused=True)
    watch, loss = Watch(0, "hint"), torch.tensor(1.0, device=device)
    weight.grad = torch.ones_like(weight)
    watch.before_step(1, [loss], weight.grad.norm(), optimizer)
    optimizer.step()
    watch.settle()
    taken = weight.detach().clone()
    assert not torch.equal(taken, torch.ones_like(taken))
    weight.grad = torch.full_like(weight, math.nan)
    with pytest.raises(Diverged, match="train/grad_norm=nan at step 2"):
        watch.before_step(2, [loss], weight.grad.norm(), optimizer)
        assert device == "cuda"
        optimizer.step()
        watch.settle()
    assert torch.equal(weight.detach(), taken)
    assert int(optimizer.state[weight]["step"]) == 1
