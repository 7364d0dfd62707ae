"""What several runs say together, and pages to read in a browser.

compare_runs(directories, output_dir, "png")   # prints a verdict and a table, leaves files

Reading order:

    find.py         the runs that a person names
    run_files.py    a run's directory as plain data
    differences.py  what sets runs apart, and what they are called by it
    groups.py       runs that differ in their seed alone
    statistics.py   whether groups differ by more than their seeds do
    comparable.py   which figures can be compared at all
    comparison.py   all of it in one object
    verdict.py      what it says; table.py, curves_figure.py, contexts_figure.py: what it shows
    terminal.py, files.py, tensorboard.py: where
    comparing.py    all of it in order
    pages/          report.html, of a run and of a comparison

Nothing here needs torch.
"""

from typing import TYPE_CHECKING

from common.lazy import importing

if TYPE_CHECKING:
    from reports.comparing import compare_runs
    from reports.comparison import Comparison
    from reports.run_files import RunFiles

__all__ = ["Comparison", "RunFiles", "compare_runs"]

__getattr__ = importing(
    __name__,
    {
        "reports.comparing": ["compare_runs"],
        "reports.comparison": ["Comparison"],
        "reports.run_files": ["RunFiles"],
    },
)
