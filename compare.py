"""Runs side by side: which was best, by how much, and whether that is more than noise."""

from omegaconf import DictConfig

from cli import Overrides, UserError, plain, refuse, run_command, user_errors

EXAMPLE = "python compare.py runs/a runs/b, or 'runs/*/*', or the directory of a sweep"


def main(composed: DictConfig, overrides: Overrides) -> None:
    """Compare the runs that were named; leave files in `output_dir`."""
    from cli.keys import COMPARE, key_problems
    from cli.sweep import comparison_directory
    from reports import compare_runs
    from reports.find import find_runs

    config = plain(composed)
    if config["runs"] is None:
        raise UserError(f"name the runs to compare: {EXAMPLE}")
    refuse(key_problems(config, COMPARE))
    with user_errors():
        runs, again = find_runs(config["runs"])
        for path in again:
            print(f"{path}: named more than once, counted once")
        asked = config["output_dir"]
        compare_runs(runs, lambda: comparison_directory(runs, asked), config["figures"])


if __name__ == "__main__":
    run_command(main, config_name="compare", words="runs")
