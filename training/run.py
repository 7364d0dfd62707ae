"""The second half of building a run: Lightning in a directory; then training and results."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from common.files import write_json, write_text
from common.signals import Request, Stopped
from data.subword_files import DESCRIPTION
from data.subwords import SubwordTokenizer
from model import Transformer, TransformerConfig
from training.callbacks.checkpoints import BestAndLast
from training.callbacks.ending import Ending, limits_of
from training.callbacks.metrics import Metrics
from training.callbacks.stop import REQUEUE, StopWhenAsked, requeue, requeue_signals
from training.callbacks.validation import EveryValidation
from training.checkpoint_files import find_checkpoint, network_weights, read_checkpoint
from training.hyperparameters import columns, curves, log_row, logged_columns, row
from training.kept import RESULTS
from training.loggers import METRICS_CSV, Csv, log_config, log_results
from training.metrics_file import METRICS, latest_metrics
from training.module import LanguageModule
from training.optimizers import OptimizerConfig
from training.parts import named, place_checkpoints
from training.phases import build_phases
from training.prepare import Prepared
from training.results import final_figures
from training.resumable import check_resumable
from training.resume_point import ResumePoint, cut_events, cut_metrics, cut_rows
from training.trainer import build_trainer


class Run:
    """A prepared run in its directory: `fit`, `best_network`, `results`, then `write_results`."""

    def __init__(
        self,
        prepared: Prepared,
        directory: Path,
        checkpoint: Path | None,
        resumed: bool = False,
        swept: Sequence[str] = (),
    ) -> None:
        """Build it in memory; the first writing is `fit`'s. ValueError for what cannot be built.

        `resumed`: the directory holds a run, to go on from `checkpoint`, or anew without one.
        `swept`: the keys that are others in other jobs of a sweep.
        """
        self.prepared, self.directory, self.checkpoint = prepared, directory, checkpoint
        self.swept = swept
        contents = read_checkpoint(checkpoint, "resume") if checkpoint else None
        # One without a checkpoint goes on from its beginning.
        point = ResumePoint.of(contents) if contents else ResumePoint(0)
        self.resume_point = point if resumed else None
        self.module = _build_module(prepared)
        checkpoints = directory / "checkpoints"
        self.best = BestAndLast(checkpoints, **prepared.config["checkpoints"])
        self.metrics = _build_metrics(prepared.config, self.best)
        settings = prepared.config["callbacks"] or {}
        place_checkpoints(settings, prepared.callbacks, checkpoints)
        keys = {
            part: f"callbacks.{key}" for key, part in named(settings, prepared.callbacks).items()
        }
        self.ending = Ending(limits_of(prepared.config), keys)
        self.request = Request("finishing this step, then saving a checkpoint")
        self.trainer = build_trainer(prepared.config, prepared.device, directory, self._callbacks())
        if contents:
            check_resumable(contents, self.trainer, self.module, f"resume={checkpoint}")

    def _callbacks(self) -> list[L.Callback]:
        """In the order of their work: a checkpoint must never hold what was not logged."""
        config = self.prepared.config
        return [
            *build_phases(config),
            self.metrics,
            *self.prepared.callbacks,
            EveryValidation(),
            self.ending,
            self.best,
            StopWhenAsked(self.request, self.best),
        ]

    def fit(self) -> None:
        """Train to `max_steps`, from the checkpoint if this run is resumed.

        Raises `Stopped` when it was asked to stop and has saved its step, Diverged where the loss
        is not finite any more.
        """
        self._begin()
        torch.set_float32_matmul_precision("highest")
        data, checkpoint = self.prepared.data, self.checkpoint
        with self.request.awaited(requeue_signals()):
            try:
                self.trainer.fit(self.module, None, None, data, checkpoint, weights_only=True)
                if self.request.number is not None:  # it came when there was no step left
                    raise Stopped(self.request.number)
            except (RuntimeError, ConnectionError, EOFError) as error:
                if not _is_of_a_worker(error):
                    raise
                raise ChildProcessError(
                    f"data.num_workers: a process that makes batches has died ({error}); "
                    f"{self.how_to_go_on()}"
                ) from error
            except Stopped as stop:
                said = [f"step {self.trainer.global_step} is saved", self.how_to_go_on()]
                if stop.number == REQUEUE:
                    said.append(requeue())
                raise Stopped(stop.number, "; ".join(said)) from None

    def _begin(self) -> None:
        """Tell the loggers the config, behind what stays of a run that goes on.

        Such a run keeps the columns of HParams that it began with.
        """
        values, tags = row(self.prepared), curves(self.prepared.config)
        before = [logged_columns(Path(logger.log_dir)) for logger in self.tensorboards]
        self._take_back()
        self._keep_tokenizer()
        for logger, known in zip(self.tensorboards, before, strict=True):
            began = {key: first for key, first in known.items() if key in values}
            log_row(logger, values, began or columns(values, self.swept), tags)
        log_config(self.trainer.loggers, self.prepared.config)

    def _keep_tokenizer(self) -> None:
        """Leave one that is a file in the run's directory, which then is a `data.tokenizer`."""
        tokenizer = self.prepared.data.tokenizer
        if isinstance(tokenizer, SubwordTokenizer) and self.trainer.is_global_zero:
            write_text(self.directory / DESCRIPTION, tokenizer.state()["json"])

    def _take_back(self) -> None:
        """Whatever the run wrote after its checkpoint, it will write again."""
        if self.resume_point is None:
            return
        metrics = self.directory / METRICS
        cut_metrics(metrics, self.resume_point)
        for tensorboard in self.tensorboards:
            cut_events(Path(tensorboard.log_dir), self.resume_point)
        for logger in self.trainer.loggers:
            if isinstance(logger, Csv):
                cut_rows(Path(logger.log_dir) / METRICS_CSV, self.resume_point)
        self.metrics.latest = latest_metrics(metrics, self.resume_point.step)

    @property
    def tensorboards(self) -> list[TensorBoardLogger]:
        """The loggers of the run that are TensorBoard's."""
        loggers = self.trainer.loggers
        return [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]

    def how_to_go_on(self) -> str:
        """The command that resumes this run, quoted for a shell."""
        return f"go on with: {shlex.join(['python', 'train.py', f'resume={self.directory}'])}"

    def best_network(self) -> Transformer:
        """The network of the best checkpoint, on the run's device and not compiled."""
        checkpoint = read_checkpoint(find_checkpoint(self.directory))
        # A phase may have changed the model since the run began; a resumed run, its backend.
        config = checkpoint["ropewalk"]["config"] | {"rope": self.prepared.config["rope"]}
        vocab_size = self.prepared.model_config.vocab_size
        net = Transformer(TransformerConfig.from_config(config, vocab_size))
        net.load_state_dict(network_weights(checkpoint))
        return net.to(self.prepared.device)

    def results(self, seconds: float) -> dict[str, Any]:
        """The figures of the trained run. `seconds`: since the process began."""
        kind, words = self.ending.why(self.trainer)
        return final_figures(self.prepared, self.metrics, self.best, self.trainer) | {
            "seconds": seconds,
            "rope/backend": self.prepared.backend,
            "run_dir": str(self.directory),
            "ended": kind,
            "why_ended": words,
        }

    def write_results(self, results: dict[str, Any]) -> None:
        """Write what loggers keep of them, and results.json, the last file: it says "finished"."""
        log_results(self.trainer.loggers, results)
        write_json(self.directory / RESULTS, results)


def _is_of_a_worker(error: Exception) -> bool:
    """Whether a process that makes batches has died, for which torch has no class of its own."""
    return not isinstance(error, RuntimeError) or str(error).startswith("DataLoader worker")


def _build_module(prepared: Prepared) -> LanguageModule:
    config = prepared.config
    module = LanguageModule(
        prepared.net,
        optimizer=OptimizerConfig(**config["optimizer"]),
        max_steps=config["trainer"]["max_steps"],
        token_bytes=torch.from_numpy(prepared.data.tokenizer.token_bytes).long(),
        byte_scale=prepared.data.byte_scale,
        identity=prepared.identity(),
        seed=config["seed"],
        shares=prepared.data.named_shares,
    )
    if config["compile"]:
        module.compile_training(None if config["compile"] is True else config["compile"])
    return module


def _build_metrics(config: dict[str, Any], best: BestAndLast) -> Metrics:
    data, trainer = config["data"], config["trainer"]
    tokens_per_step = data["batch_size"] * data["seq_len"] * trainer["accumulate_grad_batches"]
    return Metrics(trainer["log_every_n_steps"], tokens_per_step, best)
