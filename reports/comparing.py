"""Runs compared, from their directories to what is printed and left in files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from common.dotted import label
from common.figures import Formats, write_figure
from reports.comparable import BPB, LOSS, Comparable, comparable
from reports.comparison import Comparison
from reports.contexts_figure import contexts_figure
from reports.curves_figure import curves_figure
from reports.differences import differences
from reports.files import write_files
from reports.find import sweep_directory
from reports.groups import Group, common_name, group_runs
from reports.run_files import RunFiles
from reports.statistics import Means, compare_means
from reports.table import group_table, run_table
from reports.tensorboard import TEXT, log_comparison
from reports.terminal import show
from reports.verdict import notes, verdict


def compare_runs(
    directories: Sequence[Path],
    make_output_dir: Callable[[], Path],
    formats: Formats = "png",
) -> Comparison:
    """Compare the runs in `directories`, print what there is to say, leave the rest in files.

    The directory that `make_output_dir` makes gets comparison.json, .csv, .md, the pictures and
    report.html; that of these runs' sweep, a comparison/ for TensorBoard too. ValueError where a
    directory holds no run, a file is damaged, or no run is finished: it is not made then.
    """
    comparison = compare([RunFiles.read(directory) for directory in directories])
    draw(comparison)
    output_dir = make_output_dir()
    for name, figure in comparison.figures.items():
        write_figure(figure, output_dir, name, formats)
    write_files(comparison, output_dir)
    if sweep_directory(directories) == output_dir:
        log_comparison(comparison, output_dir / TEXT)
    show(comparison)
    print(f"results: {output_dir}")
    return comparison


def draw(comparison: Comparison) -> None:
    """Draw each figure that there is data for."""
    drawn = {
        "curves": curves_figure(comparison),
        "extrapolation": contexts_figure(comparison),
    }
    comparison.figures = {name: figure for name, figure in drawn.items() if figure is not None}


def compare(runs: Sequence[RunFiles]) -> Comparison:
    """Group and compare runs; ValueError where none is finished. No picture is drawn yet."""
    finished = [run for run in runs if run.results is not None]
    unfinished = [run for run in runs if run.results is None]
    if not finished:
        raise ValueError(_none_finished(unfinished))
    by = comparable(finished)
    groups = group_runs(finished, differences(finished), name_of(runs))
    if by.figure is not None:
        groups = sorted(groups, key=lambda group: group.mean(by.figure or "") or 0.0)
    ordered = [run for group in groups for run in group.runs.values()]
    differing = differences(ordered)
    comparison = Comparison(
        title=_title(runs),
        runs=ordered,
        unfinished=unfinished,
        labels=[
            label({key: values[i] for key, values in differing.items()}) or name_of(ordered)
            for i in range(len(ordered))
        ],
        labels_of_unfinished=_labels_of_unfinished(runs),
        differing=differing,
        groups=groups,
        comparable=by,
        means=_means(groups, by),
    )
    comparison.table = group_table(comparison)
    comparison.single = run_table(comparison) if comparison.has_seeds else None
    comparison.verdict, comparison.notes = verdict(comparison), notes(comparison)
    return comparison


def name_of(runs: Sequence[RunFiles]) -> str:
    """What runs are called together: their name, or the directory that holds them all."""
    return _shared_name(runs) or common_name([run.directory for run in runs])


def _shared_name(runs: Sequence[RunFiles]) -> str | None:
    """The name in the configs, if it is one and the same."""
    names = {str(run.config.get("name")) for run in runs}
    return names.pop() if len(names) == 1 and names != {"None"} else None


def _none_finished(runs: Sequence[RunFiles]) -> str:
    where = ", ".join(str(run.directory) for run in runs[:3])
    more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
    return (
        f"{where}{more}: not finished, so that there is nothing to compare; go on with them, "
        f"python train.py resume={runs[0].directory}"
    )


def _title(runs: Sequence[RunFiles]) -> str:
    count = f"{len(runs)} runs" if len(runs) > 1 else "1 run"
    name = _shared_name(runs)
    return f"{count} of {name}" if name else f"{count} in {name_of(runs)}/"


def _labels_of_unfinished(runs: Sequence[RunFiles]) -> list[str]:
    """By what sets them apart from all runs, finished or not."""
    differing = differences(runs)
    return [
        label({key: values[i] for key, values in differing.items()}) or str(run.directory)
        for i, run in enumerate(runs)
        if run.results is None
    ]


def _means(groups: Sequence[Group], by: Comparable) -> dict[str, Means]:
    keys = {LOSS: (LOSS, BPB), BPB: (BPB,), None: ()}[by.figure]
    return {key: compare_means([group.figures(key) for group in groups]) for key in keys}
