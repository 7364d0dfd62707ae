"""The loggers csv, wandb and mlflow: Lightning's, changed where those lose lines or reach out.

They write into the run's directory; wandb and mlflow may be told to use a server instead. One that
cannot begin is refused. One that fails later says so and is left out: the run goes on.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from common.dotted import leaves
from training.csv_file import header_of, read_rows, write_rows
from training.parts import first_line

METRICS_CSV = ExperimentWriter.NAME_METRICS_FILE


class Csv(CSVLogger):
    """csv/metrics.csv. A run that goes on appends to it, where Lightning's would delete it."""

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="", version="csv")

    @property
    def experiment(self) -> ExperimentWriter:
        """What writes the file; made with the first line."""
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir)
        return self._experiment  # type: ignore[return-value]

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Write a row at once: a run that is killed keeps it."""
        super().log_metrics(metrics, step)
        self.save()


class _Writer(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:
        """Know the columns of the file that is there."""
        self.metrics_keys = header_of(Path(self.metrics_file_path))

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        write_rows(path, fieldnames, read_rows(path))


class _Service:
    """What wandb and mlflow share: a failure after the beginning does not end the run."""

    failed = False
    label = ""

    def _try(self, call: Any, *arguments: Any) -> None:
        if self.failed:
            return
        try:
            call(*arguments)
        except Exception as error:
            self.failed = True
            print(f"logger.{self.label}: {first_line(error)}; the run goes on without it")

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log, unless it has failed."""
        self._try(super().log_metrics, metrics, step)  # type: ignore[misc]

    def finalize(self, status: str = "success") -> None:
        """Finish, unless it has failed."""
        self._try(super().finalize, status)  # type: ignore[misc]


class Wandb(_Service, WandbLogger):
    """Weights & Biases in wandb/, offline unless told otherwise."""

    label = "wandb"

    def __init__(self, save_dir: str, run_name: str, offline: bool = True, **kwargs: Any) -> None:
        """`kwargs`: what Lightning's logger and `wandb.init` take. Imports wandb."""
        if offline:
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # which would reach out
            os.environ.setdefault("WANDB_CACHE_DIR", f"{save_dir}/wandb/cache")
        settings = {"disable_git": True, "save_code": False, "console": "off", "silent": True}
        settings |= {"symlink": False}
        if offline:
            settings |= {"x_disable_stats": True, "x_disable_machine_info": True}
        mode = "offline" if offline else "online"
        own = {"name": run_name, "group": run_name, "mode": mode, "settings": settings}
        super().__init__(save_dir=save_dir, **own | kwargs)
        del self._wandb_init["anonymous"]  # which wandb warns of, even of None

    @property
    def experiment(self) -> Any:
        """wandb's run; its links are removed, since none may lead out of a run that goes on."""
        begins = self._experiment is None
        run = super().experiment
        if begins:
            for path in Path(str(self.save_dir), "wandb").glob("*/logs/*.log"):
                if path.is_symlink():
                    path.unlink(missing_ok=True)
        return run

    def log_results(self, results: dict[str, Any]) -> None:
        """The final figures as the run's summary; ends the run, for another may follow."""
        self._try(lambda: self.experiment.summary.update(results))
        self._try(lambda: self.experiment.finish())


class Mlflow(_Service, MLFlowLogger):
    """MLflow in files below mlflow/, or on a server."""

    label = "mlflow"

    def __init__(
        self, save_dir: str, run_name: str, tracking_uri: str | None = None, **kwargs: Any
    ) -> None:
        """`kwargs`: what Lightning's logger takes. Imports mlflow."""
        logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # training waits meanwhile
        if tracking_uri is None:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a database needs more
            tracking_uri = (Path(save_dir).absolute() / "mlflow").as_uri()
        super().__init__(run_name=run_name, tracking_uri=tracking_uri, **kwargs)

    def log_results(self, results: dict[str, Any]) -> None:
        """The final figures as metrics `final/…` of the last step."""
        figures = {
            f"final/{name}": float(value)
            for name, value in results.items()
            if isinstance(value, int | float)
        }
        self.log_metrics(figures, results["steps"])
        self.finalize("success")


def log_config(loggers: Iterable[object], config: dict[str, Any]) -> None:
    """The whole config, by dotted keys, to those of `loggers` that stand here."""
    for logger in loggers:
        if isinstance(logger, (Csv, Wandb, Mlflow)):
            logger.log_hyperparams(leaves(config))


def log_results(loggers: Iterable[object], results: dict[str, Any]) -> None:
    """The final figures, to those that take them."""
    for logger in loggers:
        if isinstance(logger, (Wandb, Mlflow)):
            logger.log_results(results)
