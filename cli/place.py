"""A prepared run gets its directory: built in memory first, then claimed, then written."""

from collections.abc import Sequence

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from cli.command import COMMAND
from cli.environment import environment
from cli.errors import UserError, user_errors
from cli.leftovers import Leftovers
from cli.overrides import Overrides
from cli.plan import Plan
from cli.rundir import CLAIM, claim, free_directory, save_config
from common.files import write_json
from training import Run
from training.kept import RESULTS
from training.parts import blamed, first_line
from training.prepare import Prepared


class Placed:
    """A run in a directory of its own, `run`, with config and environment written."""

    def __init__(self, plan: Plan, prepared: Prepared, overrides: Overrides) -> None:
        """`overrides`: the user's. UserError for what cannot be built, nothing written."""
        self.overrides = overrides
        self.run = self._build(plan, prepared)
        while not (plan.run or claim(self.run.directory)):
            self.run = self._build(plan, prepared)  # another process was faster
        directory = self.run.directory
        (directory / RESULTS).unlink(missing_ok=True)  # old ones would say that this is finished
        save_config(directory, prepared.config, overrides.lines)
        write_json(directory / "environment.json", environment(prepared.device, COMMAND))

    def _build(self, plan: Plan, prepared: Prepared) -> Run:
        config, job = plan.config, self.overrides.directory
        directory = plan.run or free_directory(config["run_dir"], config["name"], job)
        self.leftovers = Leftovers(directory)
        try:
            with user_errors():
                resumed, swept = plan.run is not None, self.overrides.swept
                return Run(prepared, directory, plan.checkpoint, resumed, swept)
        except UserError:
            if plan.run or not (directory / CLAIM).exists():  # else another's by now
                self.leftovers.remove()
            raise

    def fit(self) -> None:
        """Train. UserError, which names it, where a callback or logger cannot work.

        Before the first step the disk is then left as it was.
        """
        try:
            self.run.fit()
        except (FloatingPointError, OSError):
            raise  # for which no part is to blame
        except Exception as error:
            begins = self.run.trainer.global_step == 0
            key = self._fault_of(error, begins)
            if key is None:
                raise  # a bug: its traceback is to be seen
            if begins:
                self.leftovers.remove()
            raise UserError(f"{key}: {first_line(error)}; mend it, or leave it out") from error

    def _fault_of(self, error: Exception, begins: bool) -> str | None:
        """The key of what cannot work: a part of Lightning's, or any at its first call."""
        parts = self._parts()
        key = blamed(error, parts)
        if key and (begins or type(parts[key]).__module__.startswith("lightning.")):
            return key
        return "trainer" if isinstance(error, MisconfigurationException) else None

    def _parts(self) -> dict[str, object]:
        """What the user brought to the run, by its config key."""
        config, parts = self.run.prepared.config, dict[str, object]()
        groups: dict[str, Sequence[object]] = {
            "callbacks": self.run.prepared.callbacks,
            "logger": self.run.trainer.loggers[1:],  # the first is metrics.jsonl
        }
        for group, made in groups.items():
            entries = (config[group] or {}).items()
            keys = [f"{group}.{name}" for name, entry in entries if entry is not None]
            parts |= dict(zip(keys, made, strict=False))
        return parts
