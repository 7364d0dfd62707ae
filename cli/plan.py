"""From the composed config to the one that will run: resumed where asked, checked as a whole."""

from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from cli.check import check_run, check_values
from cli.compose import plain
from cli.errors import user_errors
from cli.overrides import Overrides
from cli.resume import check_meaningful, check_unfinished, resumed_config
from cli.rundir import CLAIM, RESULTS, check_free
from cli.unfinished import find_run, find_unfinished


class Plan(NamedTuple):
    """What will run. `run` is None for a new one; `checkpoint` where an old one goes on from."""

    config: dict[str, Any]
    run: Path | None
    checkpoint: Path | None


def plan_run(composed: DictConfig, overrides: Overrides) -> Plan:
    """The config of today's run, complete and right. UserError with every problem otherwise."""
    config = plain(composed)
    resume, run_dir = config["resume"], config["run_dir"]
    if isinstance(resume, str) and resume != "auto":  # a run answers for its own config
        check_meaningful(resume, overrides)
        return _resumed(composed, overrides, *find_run(resume))
    check_values(config, overrides)
    if resume is None:
        check_free(run_dir)
    check_run(config, overrides)
    config["name"] = config["name"] or _default_name(config)
    if resume is None:
        return Plan(config, None, None)
    if found := find_unfinished(run_dir, config["name"]):
        return _resumed(composed, overrides, *found)
    if run_dir is not None and (Path(run_dir) / CLAIM).exists():
        if (Path(run_dir) / RESULTS).exists():
            check_free(run_dir)
        return Plan(config, Path(run_dir), None)  # it ended before its first checkpoint
    print(f"resume=auto: no unfinished run of {run_dir or config['name']}; a new one begins")
    return Plan(config, None, None)


def _resumed(composed: DictConfig, overrides: Overrides, run: Path, checkpoint: Path) -> Plan:
    config = resumed_config(composed, overrides, run)
    check_values(config, overrides)
    check_run(config, overrides)
    from training.checkpoint_files import read_checkpoint

    with user_errors():
        step = read_checkpoint(checkpoint, "resume")["global_step"]
    check_unfinished(run, step, config["trainer"]["max_steps"])
    return Plan(config, run, checkpoint)


def _default_name(config: dict[str, Any]) -> str:
    """The corpus and the backend, so that two backends are two curves."""
    from kernels import resolve_backend
    from training import pick_device

    with user_errors():
        device = pick_device(config["trainer"]["accelerator"])
        backend = resolve_backend(config["rope"]["backend"], device)
    position = config["position"]  # without a rotation no backend is at work
    return f"{config['data']['corpus']}-{backend if position == 'rope' else position}"
