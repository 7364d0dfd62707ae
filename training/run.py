"""The second half of putting a run together: Lightning, in a directory; then the results."""

import inspect
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from common.files import write_json
from model import Transformer, TransformerConfig
from model.flops import flops_per_token
from training.callbacks.checkpoints import (
    LAST,
    AtomicCheckpointIO,
    BestAndLast,
    find_checkpoint,
    network_weights,
    read_checkpoint,
)
from training.callbacks.metrics import Metrics
from training.callbacks.throughput import peak_flops
from training.metrics_file import JsonLines, latest_metrics
from training.module import LanguageModule
from training.optimizers import OptimizerConfig
from training.phases import build_phases
from training.prepare import Prepared

# Steps, never epochs; checkpoints, progress and data order are ours.
OWN_SETTINGS: dict[str, Any] = {
    "max_epochs": -1,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "use_distributed_sampler": False,
}
BUILT_HERE = {*OWN_SETTINGS, "default_root_dir", "logger", "callbacks", "plugins"}


def trainer_problems(settings: Mapping[str, Any]) -> list[str]:
    """A line for each key under `trainer` that Lightning's Trainer does not have or we set."""
    keys = sorted(settings.keys() - {"_target_"})
    known = inspect.signature(L.Trainer.__init__).parameters
    taken = [f"trainer.{key}: is set by train.py itself" for key in keys if key in BUILT_HERE]
    return taken + [
        f"trainer.{key}: Lightning's Trainer has no such key" for key in keys if key not in known
    ]


# Keys that say where a run lies or how it began
PLACES = ("name", "run_dir", "resume", "init_from")


class Interrupted(Exception):
    """The run was told to stop, by the signal `number`."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"interrupted by {number.name}")
        self.number = number


class Run:
    """A prepared run in its directory: `fit`, then `write_results`."""

    def __init__(
        self, prepared: Prepared, directory: Path, checkpoint: Path | None, resumed: bool = False
    ) -> None:
        """`resumed`: the directory holds a run, to go on from `checkpoint`, or anew without one."""
        self.prepared, self.directory, self.checkpoint = prepared, directory, checkpoint
        config, data = prepared.config, prepared.data
        step = read_checkpoint(checkpoint, "resume")["global_step"] if checkpoint else 0
        self.resume_step = step if resumed else None
        (directory / "results.json").unlink(missing_ok=True)  # an old one says "finished"
        settings = config["trainer"]
        self.best = BestAndLast(directory / "checkpoints")
        tokens_per_step = (
            config["data"]["batch_size"]
            * config["data"]["seq_len"]
            * settings["accumulate_grad_batches"]
        )
        self.metrics = Metrics(settings["log_every_n_steps"], tokens_per_step)
        if checkpoint:
            self.metrics.latest = latest_metrics(directory / "metrics.jsonl", step)
        self.module = LanguageModule(
            prepared.net,
            optimizer=OptimizerConfig(**config["optimizer"]),
            max_steps=settings["max_steps"],
            token_bytes=torch.from_numpy(data.tokenizer.token_bytes).long(),
            identity=prepared.identity(),
            seed=config["seed"],
        )
        if config["compile"]:
            self.module.compile_training(None if config["compile"] is True else config["compile"])
        self.trainer = self._trainer(settings)

    def fit(self) -> None:
        """Train to `max_steps`, from the checkpoint if this run is resumed.

        Raises Interrupted after Ctrl-C or SIGTERM, FloatingPointError where the loss diverged.
        """
        torch.set_float32_matmul_precision("highest")
        data, checkpoint = self.prepared.data, self.checkpoint
        try:
            self.trainer.fit(self.module, None, None, data, checkpoint, weights_only=True)
        except SystemExit as stop:  # Lightning's answer to either signal, with a status of its own
            number = signal.SIGTERM if isinstance(stop, SIGTERMException) else signal.SIGINT
            raise Interrupted(number) from None

    def how_to_go_on(self) -> str:
        """The command that resumes this run, or why there is none."""
        if not (self.directory / "checkpoints" / LAST).exists():
            return "nothing to resume yet: the first checkpoint comes with the first validation"
        return f"go on with: python train.py resume={self.directory}"

    def best_network(self) -> Transformer:
        """The network of the best checkpoint, on the run's device and not compiled."""
        checkpoint = read_checkpoint(find_checkpoint(self.directory))
        # A phase may have changed the model since the run began; a resumed run, its backend.
        config = checkpoint["ropewalk"]["config"] | {"rope": self.prepared.config["rope"]}
        net = Transformer(TransformerConfig.from_config(config, self.prepared.data.vocab_size))
        net.load_state_dict(network_weights(checkpoint))
        return net.to(self.prepared.device)

    def results(self, seconds: float) -> dict[str, Any]:
        """The final figures; the headline ones are the best checkpoint's. `seconds` since start."""
        latest, config = self.metrics.latest, self.prepared.config
        rate = self.metrics.tokens_per_second()
        peak = peak_flops(self.prepared.device)
        seq_len = config["data"]["seq_len"]
        flops = flops_per_token(self.prepared.model_config, seq_len)
        return {
            "train/loss": latest.get("train/loss"),
            "val/loss": self.best.best_loss,
            "val/bpb": self.best.best_bpb,
            "val/loss_last": latest["val/loss"],
            "best_step": self.best.best_step,
            "steps": self.trainer.global_step,
            "tokens": self.trainer.global_step * self.metrics.tokens_per_step,
            "tokens_per_second": rate,
            "flops_per_token": flops,
            "mfu": rate * flops / (peak * self.trainer.world_size) if rate and peak else None,
            "parameters": self.prepared.net.num_parameters(),
            "seconds": seconds,
            "rope/backend": self.prepared.backend,
            "run_dir": str(self.directory),
        }

    def write_results(self, seconds: float) -> dict[str, Any]:
        """results.json, and a row of TensorBoard's HParams tab."""
        results = self.results(seconds)
        write_json(self.directory / "results.json", results)
        shown = {
            f"hp/{name.replace('/', '_')}": float(value)
            for name, value in results.items()
            if isinstance(value, (int, float))
        }
        for logger in self.trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(hyperparameters(self.prepared), shown)
                logger.finalize("success")
        return results

    def _trainer(self, settings: dict[str, Any]) -> L.Trainer:
        config = self.prepared.config
        on_cuda = self.prepared.device.type == "cuda"
        automatic = "bf16-mixed" if on_cuda else "32-true"
        precision = automatic if settings["precision"] == "auto" else settings["precision"]
        # Lightning counts micro-batches there.
        check = settings["val_check_interval"] * settings["accumulate_grad_batches"]
        phases = build_phases(config)
        partial = instantiate(
            settings | {"precision": precision, "val_check_interval": check, "_partial_": True}
        )
        return partial(
            default_root_dir=str(self.directory),
            logger=self._loggers(config["logger"] or {}),
            # The figures come first, the saving last: a checkpoint holds what was logged.
            callbacks=[*phases, self.metrics, *self.prepared.callbacks, ValidateLast(), self.best],
            plugins=[AtomicCheckpointIO()],
            **OWN_SETTINGS,
        )

    def _loggers(self, settings: Mapping[str, Any]) -> list[Any]:
        loggers: list[Any] = [JsonLines(self.directory / "metrics.jsonl", self.resume_step)]
        for logger in settings.values():
            extra: dict[str, Any] = {"save_dir": str(self.directory)}
            if self.resume_step is not None and logger["_target_"].endswith("TensorBoardLogger"):
                extra["purge_step"] = self.resume_step + 1
            loggers.append(instantiate(logger | extra))
        return loggers


class ValidateLast(L.Callback):
    """Lets a full validation follow the last step, wherever the interval falls."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Lightning validates once more when it has been told to stop."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True


def hyperparameters(prepared: Prepared) -> dict[str, Any]:
    """The config keys that a person compares runs by, flat."""
    config = prepared.config
    flat = {key: value for key, value in config.items() if key not in PLACES}
    for group in ("model", "rope", "scaling", "data", "optimizer"):
        flat |= {f"{group}.{key}": value for key, value in config[group].items()}
    scalars = {key: value for key, value in flat.items() if isinstance(value, (int, float, str))}
    return scalars | {"backend": prepared.backend}
