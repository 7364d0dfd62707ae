"""`resume=`: which run goes on, and with which config.

The config is the interrupted run's, with what the user changes today laid over it. It is read as
data: a `_target_` in it is never used, those come from the project's own files.
"""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cli.command import CONFIGS, plain
from cli.errors import UserError
from cli.overrides import compose_plain, flatten
from cli.rundir import CLAIM, RUNS

LAST = Path("checkpoints") / "last.ckpt"
FINISHED = "results.json"
# Groups that decide what the weights and the data order mean: they cannot change half-way.
FIXED = ("model.", "rope.", "scaling.", "data.", "position", "seed")
FREE = ("rope.backend", "data.num_workers")


def find_run(resume: str, run_dir: str | None, name: str) -> tuple[Path, Path] | None:
    """The run directory and the checkpoint that `resume` means; None: `auto` starts afresh."""
    if resume == "auto":
        runs = [Path(run_dir)] if run_dir else sorted((RUNS / name).glob("*"), reverse=True)
        for run in runs:
            if (run / LAST).is_file() and not (run / FINISHED).exists():
                return run, run / LAST
        return None
    path = Path(resume)
    if path.is_file():
        run, checkpoint = path.resolve().parent.parent, path
    else:
        run, checkpoint = path, path / LAST
    if not checkpoint.is_file() or not (run / CLAIM / "config.yaml").is_file():
        raise UserError(
            f"resume={resume}: holds no run to go on with; give a run directory that has {LAST}, "
            "or resume=auto"
        )
    return run, checkpoint


def resumed_config(today: DictConfig, overrides: list[str], run: Path) -> dict[str, Any]:
    """The run's own config under today's changes. UserError where one of them cannot be made."""
    saved = OmegaConf.load(run / CLAIM / "config.yaml")
    assert isinstance(saved, DictConfig)
    config, default = plain(today), plain(compose_plain(CONFIGS, "train"))
    now, before, then = flatten(config), flatten(default), flatten(plain(saved))
    typed = {override.partition("=")[0].lstrip("+") for override in overrides}
    for key, value in then.items():
        if isinstance(value, dict) or key.endswith("_target_") or key not in now:
            continue
        changed = key in typed or now[key] != before.get(key)
        if not changed:
            _set(config, key, value)
        elif key.startswith(FIXED) and key not in FREE and now[key] != value:
            raise UserError(
                f"{key}={now[key]}: the run began with {value}, which cannot change half-way; "
                f"leave it out, or start a new run with init_from={run}"
            )
    return config | {"run_dir": str(run), "resume": str(run)}


def check_unfinished(run: Path, step: int, max_steps: int) -> None:
    """Refuse to go on with a run that has nothing left to do."""
    if step >= max_steps:
        raise UserError(
            f"resume={run}: already at step {step} of {max_steps}; go further with "
            f"trainer.max_steps={step * 2}"
        )


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        config = config[parent]
        if not isinstance(config, dict):
            return  # a group that is null today
    config[last] = value
