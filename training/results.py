"""The final figures of a run: what results.json holds."""

from typing import Any

import lightning as L

from model.flops import flops_per_token
from training.callbacks.checkpoints import BestAndLast
from training.callbacks.metrics import Metrics
from training.callbacks.throughput import peak_flops
from training.prepare import Prepared


def final_figures(
    prepared: Prepared, metrics: Metrics, best: BestAndLast, trainer: L.Trainer
) -> dict[str, Any]:
    """The figures of a run that has been trained; the headline ones are the best checkpoint's."""
    rate = metrics.tokens_per_second()
    peak = peak_flops(prepared.device)
    flops = flops_per_token(prepared.model_config, prepared.config["data"]["seq_len"])
    return {
        "train/loss": metrics.latest.get("train/loss"),
        "val/loss": best.best_loss,
        "val/bpb": best.best_bpb,
        "val/loss_last": metrics.latest.get("val/loss"),
        "best_step": best.best_step,
        "steps": trainer.global_step,
        "tokens": trainer.global_step * metrics.tokens_per_step,
        "tokens_per_second": rate,
        "flops_per_token": flops,
        "mfu": rate * flops / (peak * trainer.world_size) if rate and peak else None,
        "parameters": prepared.net.num_parameters(),
        "text": prepared.data.fingerprint["sha256"],  # runs of one text can be compared
    }
