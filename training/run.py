"""The second half of building a run: Lightning in a directory; then training and results."""

import signal
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from common.files import write_json
from model import Transformer, TransformerConfig
from training.callbacks.checkpoints import BestAndLast
from training.callbacks.metrics import Metrics
from training.checkpoint_files import LAST, find_checkpoint, network_weights, read_checkpoint
from training.metrics_file import latest_metrics
from training.module import LanguageModule
from training.optimizers import OptimizerConfig
from training.phases import build_phases
from training.prepare import Prepared
from training.results import final_figures, log_hyperparameters
from training.resumable import check_resumable
from training.trainer import ValidateLast, build_trainer


class Interrupted(Exception):
    """The run was stopped by the signal `number`."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"interrupted by {number.name}")
        self.number = number


class Run:
    """A prepared run in its directory: `fit`, then `best_network`, then `write_results`."""

    def __init__(
        self, prepared: Prepared, directory: Path, checkpoint: Path | None, resumed: bool = False
    ) -> None:
        """`resumed`: the directory holds a run, to go on from `checkpoint`, or anew without one."""
        self.prepared, self.directory, self.checkpoint = prepared, directory, checkpoint
        contents = read_checkpoint(checkpoint, "resume") if checkpoint else {"global_step": 0}
        step = contents["global_step"]
        self.resume_step = step if resumed else None
        (directory / "results.json").unlink(missing_ok=True)  # an old one says "finished"
        self.module = _build_module(prepared)
        self.metrics = _build_metrics(prepared.config)
        if checkpoint:
            self.metrics.latest = latest_metrics(directory / "metrics.jsonl", step)
        self.best = BestAndLast(directory / "checkpoints", **prepared.config["checkpoints"])
        phases = build_phases(prepared.config)
        # Metrics come before checkpoints, so that a checkpoint never holds what was not logged.
        callbacks = [*phases, self.metrics, *prepared.callbacks, ValidateLast(), self.best]
        self.trainer = build_trainer(
            prepared.config, prepared.device, directory, callbacks, self.resume_step
        )
        if checkpoint:
            check_resumable(contents, self.trainer, self.module, f"resume={checkpoint}")

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

    def write_results(self, seconds: float) -> dict[str, Any]:
        """Write results.json and TensorBoard's HParams. `seconds`: since the process began."""
        results = final_figures(self.prepared, self.metrics, self.best, self.trainer) | {
            "seconds": seconds,
            "rope/backend": self.prepared.backend,
            "run_dir": str(self.directory),
        }
        write_json(self.directory / "results.json", results)
        log_hyperparameters(self.prepared, results, self.trainer.loggers)
        return results


def _build_module(prepared: Prepared) -> LanguageModule:
    config = prepared.config
    module = LanguageModule(
        prepared.net,
        optimizer=OptimizerConfig(**config["optimizer"]),
        max_steps=config["trainer"]["max_steps"],
        token_bytes=torch.from_numpy(prepared.data.tokenizer.token_bytes).long(),
        identity=prepared.identity(),
        seed=config["seed"],
    )
    if config["compile"]:
        module.compile_training(None if config["compile"] is True else config["compile"])
    return module


def _build_metrics(config: dict[str, Any]) -> Metrics:
    data, trainer = config["data"], config["trainer"]
    tokens_per_step = data["batch_size"] * data["seq_len"] * trainer["accumulate_grad_batches"]
    return Metrics(trainer["log_every_n_steps"], tokens_per_step)
