"""What a comparison says, in plain lines: which is best, by how much, whether it is noise."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from reports.comparable import BPB, LOSS, UNITS, devices
from reports.comparison import Comparison
from reports.contexts import same_targets
from reports.groups import seed_of
from reports.statistics import Interval, Means
from reports.table import FORMS, half_of

SEEDS = "seed=0,1,2"


def verdict(comparison: Comparison) -> list[str]:
    """The lines, the most important first."""
    means, lines = comparison.compared, []
    if len(comparison.runs) == 1:
        lines = [_alone(comparison)]
    elif means is not None and len(comparison.groups) == 1:
        lines = _one_group(comparison, means)
    elif means is not None:
        lines = [_best(comparison, means), *_unclear(comparison, means)]
        lines += [*_distances(comparison, means), *_one_seed(comparison, means)]
    return [
        *lines,
        *(comparison.comparable.reasons if len(comparison.runs) > 1 else []),
        *_repeats(comparison),
        *_unfinished(comparison),
        *(comparison.comparable.doubts if len(comparison.runs) > 1 else []),
        *_devices(comparison),
    ]


def notes(comparison: Comparison) -> list[str]:
    """How the table is read: its stars, its intervals, and what its columns are not."""
    means, lines = comparison.compared, []
    if means is not None and means.ci95 is not None:
        lines += ["* lower than every other by more than its interval"] if means.clear else []
        lines.append(_basis(means))
    if not same_targets(comparison):
        lines.append("bpb at long contexts is not of the same passages in all runs")
    return lines


def _basis(means: Means) -> str:
    count = len(means.means) - 1
    if not count:
        return "± is half a 95 % interval over seeds (Student's t)"
    paired = "paired by seed, " if means.paired else ""
    every = "both" if count == 2 else f"all {count}"
    together = f"; {every} differences hold together" if count > 1 else ""
    surer = "; differences are known better than values, as a seed moves all setups alike"
    return (
        f"± is half a 95 % interval over seeds (Student's t, {paired}{means.df} degrees of "
        f"freedom{together}){surer if _are_surer(means) else ''}"
    )


def _are_surer(means: Means) -> bool:
    """Whether the interval of every difference is narrower than that of any mean."""
    assert means.ci95 is not None and means.above_ci95 is not None
    widest = max(high - low for low, high in means.above_ci95)
    return means.paired and widest < min(high - low for low, high in means.ci95)


def _alone(comparison: Comparison) -> str:
    return (
        f"One finished run, {_figures(comparison, 0)}; there is nothing to compare it with: name "
        "two or more."
    )


def _one_group(comparison: Comparison, means: Means) -> list[str]:
    """Runs that nothing but the seed sets apart."""
    (group,), key = comparison.groups, comparison.comparable.figure or LOSS
    figures = group.figures(key).values()
    low, high = (FORMS[key].format(end) for end in (min(figures), max(figures)))
    half = f" {half_of(means.ci95[0], FORMS[key])}" if means.ci95 else ""
    mean = FORMS[key].format(means.means[0])
    return [
        f"One setup with {len(group.runs)} seeds: mean {key} {mean}{half} {UNITS[key]}, from {low} "
        f"to {high}. Its runs differ by their seed alone, so that none of them is the best setup."
    ]


def _best(comparison: Comparison, means: Means) -> str:
    group = comparison.groups[means.best]
    count = len(group.runs)
    seeds = f", mean of {count} seeds" if count > 1 else ""
    word = "Best" if means.clear else "Lowest"
    return f"{word}: {group.label}, {_figures(comparison, means.best)}{seeds}."


def _figures(comparison: Comparison, place: int) -> str:
    """`val/loss 3.0286 ±0.0278 nats per token (4.369 bits per byte)`."""
    group, key = comparison.groups[place], comparison.comparable.figure or LOSS
    means = comparison.compared
    half = f" {half_of(means.ci95[place], FORMS[key])}" if means and means.ci95 else ""
    text = f"{key} {FORMS[key].format(group.mean(key))}{half} {UNITS[key]}"
    if key == LOSS:
        text += f" ({FORMS[BPB].format(group.mean(BPB))} {UNITS[BPB]})"
    return text


def _distances(comparison: Comparison, means: Means) -> list[str]:
    """To the next one, and to the worst."""
    order = sorted(range(len(means.means)), key=means.means.__getitem__)
    lines = [_distance(comparison, means, order[1], "next")]
    return lines + ([_distance(comparison, means, order[-1], "worst")] if len(order) > 2 else [])


def _distance(comparison: Comparison, means: Means, place: int, which: str) -> str:
    key = comparison.comparable.figure or LOSS
    form = FORMS[key].format
    text = f"It is {form(means.above[place])} {UNITS[key]}"
    if key == LOSS:
        bits = comparison.groups[place].mean(BPB) or math.nan
        bits -= comparison.groups[means.best].mean(BPB) or math.nan
        text += f" ({FORMS[BPB].format(bits)} {UNITS[BPB]})"
    text += f" below the {which}, {comparison.groups[place].label}"
    if means.above_ci95 is None:
        return f"{text}."
    low, high = means.above_ci95[place]
    between = f"95 % interval {form(low)} to {form(high)}"
    if low > 0:
        return f"{text} ({between}): more than the spread between seeds."
    return f"{text} ({between}): no more than the spread between seeds explains."


def _unclear(comparison: Comparison, means: Means) -> list[str]:
    """From which others the lowest one cannot be told apart."""
    if means.clear or means.above_ci95 is None:
        return []
    like = _not_apart(comparison, means.above_ci95, means.best)
    return [f"No clear best: it is not told apart from {like}. More seeds tell."]


def _one_seed(comparison: Comparison, means: Means) -> list[str]:
    """What is not known where no setup has two seeds, and the command that tells."""
    if means.ci95 is not None:
        return []
    return [
        "Each setup ran with one seed: whether that is more than noise is not known. "
        f"More seeds tell: {_more_seeds(comparison)}"
    ]


def _not_apart(comparison: Comparison, intervals: Sequence[Interval], best: int) -> str:
    """The groups that may be as good as the best one."""
    labels = [
        group.label
        for i, (group, (low, _)) in enumerate(zip(comparison.groups, intervals, strict=True))
        if i != best and low <= 0
    ]
    if len(labels) > 4:
        return f"{', '.join(labels[:3])} and {len(labels) - 3} others"
    return ", ".join(labels)


def _more_seeds(comparison: Comparison) -> str:
    """The command that trained the runs, with several seeds."""
    commands = {str(run.environment.get("command", "")) for run in comparison.runs}
    try:
        words = shlex.split(commands.pop()) if len(commands) == 1 else []
    except ValueError:
        words = []
    if not any(word.endswith("train.py") for word in words):
        return f"train each with {SEEDS} -m"
    kept = [word for word in words if not word.startswith(("seed=", "run_dir=", "resume="))]
    kept = [word for word in kept if word not in ("-m", "--multirun")]
    return shlex.join([*kept, SEEDS, "-m"])


def _repeats(comparison: Comparison) -> list[str]:
    """Runs that are alike in every key, the seed included."""
    seen: dict[tuple[str, int], str] = {}
    lines = []
    for group in comparison.groups:
        for seed, run in group.runs.items():
            key = (str(group.values), seed)
            if key in seen:
                lines.append(
                    f"{run.directory} is like {seen[key]}, its seed included: it is no further "
                    "seed, and stands as a setup of its own."
                )
            seen.setdefault(key, str(run.directory))
    return lines


def _unfinished(comparison: Comparison) -> list[str]:
    """Each run that has no results, how far it came, and how it goes on."""
    lines = []
    for label, run in zip(comparison.labels_of_unfinished, comparison.unfinished, strict=True):
        step = run.metrics[-1]["step"] if run.metrics else 0
        most = (run.config.get("trainer") or {}).get("max_steps", "?")
        command = shlex.join(["python", "train.py", f"resume={run.directory}"])
        lines.append(
            f"Not finished, and so without figures: {label} (seed {seed_of(run)}, step {step} of "
            f"{most}). It goes on with: {command}"
        )
    return lines


def _devices(comparison: Comparison) -> list[str]:
    found = devices(comparison.runs)
    if len(found) < 2:
        return []
    return [f"Speeds are of different devices: {', '.join(sorted(found))}."]
