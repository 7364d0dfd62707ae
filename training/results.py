"""The final figures of a run: results.json, and its row of TensorBoard's HParams."""

from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from model.flops import flops_per_token
from training.callbacks.checkpoints import BestAndLast
from training.callbacks.metrics import Metrics
from training.callbacks.throughput import peak_flops
from training.prepare import Prepared

# Keys that say where a run lies or how it began
PLACES = ("name", "run_dir", "resume", "init_from")


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


def log_hyperparameters(prepared: Prepared, results: dict[str, Any], loggers: list[Any]) -> None:
    """A row of TensorBoard's HParams tab: the run's config keys and its results."""
    shown = {
        f"hp/{name.replace('/', '_')}": float(value)
        for name, value in results.items()
        if isinstance(value, (int, float))
    }
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(hyperparameters(prepared), shown)
            logger.finalize("success")


def hyperparameters(prepared: Prepared) -> dict[str, Any]:
    """The config keys that a person compares runs by, flat."""
    config = prepared.config
    flat = {key: value for key, value in config.items() if key not in PLACES}
    for group in ("model", "rope", "scaling", "data", "optimizer"):
        flat |= {f"{group}.{key}": value for key, value in config[group].items()}
    scalars = {key: value for key, value in flat.items() if isinstance(value, (int, float, str))}
    return scalars | {"backend": prepared.backend}
