"""Kernels and whole training steps against their peers: tables, JSON and plots."""

from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from cli import Overrides, UserError, plain, refuse, run_command
from cli.command import COMMAND
from common.terminal import say


def main(composed: DictConfig, overrides: Overrides) -> None:
    """Measure the parts that were asked for; leave the results in `output_dir`."""
    from benchmarks import rules, unread
    from cli.compose import composed as compose
    from cli.keys import BENCHMARK, key_problems

    config, all_there_is = plain(composed), plain(compose("benchmark"))
    wrong = key_problems(config, BENCHMARK | rules(all_there_is))
    refuse(wrong or unread(config, overrides.typed))

    from benchmarks import PartProgress, impossible, new_bench  # from here on torch is loaded
    from cli.environment import environment

    bench = new_bench(config["rounds"], config["seed"], PartProgress())
    refuse(impossible(config, overrides.typed, bench.device))
    directory = results_directory(config["output_dir"])
    surroundings = environment(bench.device, COMMAND)
    say(f"on {surroundings['device']}, torch {surroundings['versions']['torch']}")
    report = {"environment": surroundings, "config": config, "parts": {}}
    run(report, bench, directory)
    print(f"results: {directory}")


def run(report: dict[str, Any], bench: Any, directory: Path) -> None:
    """Run part after part; what one has found is shown and written before the next begins."""
    from rich.console import Console

    from benchmarks import PARTS, run_part, write_pictures, write_report
    from benchmarks.report import tables

    config = report["config"]
    console = Console()
    if not console.is_terminal:
        console.width = 100
    for name in (name for name in PARTS if name in config["parts"]):
        with bench.progress.part(name):
            result = run_part(name, config, bench)
        for shown in tables(name, result):
            console.print(shown, highlight=False)
            console.print()
        report["parts"][name] = result
        write_report(report, directory)
        write_pictures(name, result, directory, config["figures"])


def results_directory(output_dir: str | None) -> Path:
    """`output_dir`, or a new directory of its own; a UserError where it cannot be made."""
    from benchmarks.report import REPORT
    from cli.rundir import RUNS, evaluation_directory

    if output_dir is not None and (Path(output_dir) / REPORT).exists():
        raise UserError(f"output_dir={output_dir}: holds a benchmark already; take another")

    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return evaluation_directory(RUNS, output_dir or str(RUNS / "benchmark" / stamp))


if __name__ == "__main__":  # as @hydra.main, which completion in fish looks for
    run_command(main, config_name="benchmark")
