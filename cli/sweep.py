"""What a sweep says at its end: its runs compared."""

import os
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cli.errors import UserError
from cli.rundir import RUNS, evaluation_directory


def after(directories: Sequence[Path]) -> None:
    """Compare the runs of a sweep, in its own directory, and say where that is to be seen.

    Pictures are of the formats of the first run. Nothing is said of a single run. The runs have
    ended by now and keep what they wrote, so that what cannot be compared is a line and no failure.
    """
    from reports import RunFiles, compare_runs
    from reports.run_files import is_run

    runs = [directory for directory in directories if is_run(directory)]
    if len(runs) < 2:
        return
    try:
        formats = RunFiles.read(runs[0]).config.get("figures", "png")
        compare_runs(runs, lambda: comparison_directory(runs), formats)
    except (ValueError, UserError, OSError) as error:
        print(f"the runs are not compared: {error}")
    home = os.path.relpath(os.path.commonpath([os.path.abspath(run) for run in runs]))
    print(f"curves:  tensorboard --logdir {shlex.quote(home)}")


def comparison_directory(runs: Sequence[Path], output_dir: str | None = None) -> Path:
    """Where a comparison goes: `output_dir`, the directory of the sweep whose runs these are, or a
    new runs/comparisons/<timestamp>. UserError where it cannot be made."""
    from reports.find import sweep_directory

    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    own = sweep_directory(runs) or RUNS / "comparisons" / stamp
    return evaluation_directory(RUNS, output_dir or str(own))
