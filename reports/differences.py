"""What sets runs apart: the keys of their configs that differ, by which they are named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.rules import shown
from reports.run_files import RunFiles

UNKNOWN = "?"  # a key that an older run has not
SEED = "seed"
# Where a run lies, and how it is shown and saved, which leaves its figures what they are
IGNORED = (
    *("name", "run_dir", "resume", "figures", "phases", "evaluation", "checkpoints", "logger"),
    *("callbacks.progress", "callbacks.samples", "data.num_workers"),
    *("trainer._target_", "trainer.log_every_n_steps", "trainer.profiler"),
)
PATHS = ("data.path", "init_from")  # shown by their last part where that is enough

Values = dict[str, list[str]]  # key -> its value in each run, as it is typed


def differences(runs: Sequence[RunFiles]) -> Values:
    """The keys that differ between runs, dotted: first those that were typed, `seed` the last.

    Keys that one choice of a group explains (`model=mini`) are that group's one key, where every
    run was typed with such a choice. A key that a run has not is no difference by itself.
    """
    flats = [flat(run.config) for run in runs]
    keys = dict.fromkeys(key for config in flats for key in config)
    values = {
        key: [_shown(key, config) for config in flats] for key in keys if _is_counted(key, runs)
    }
    found = {key: v for key, v in values.items() if len(set(v) - {UNKNOWN}) > 1}
    for key in PATHS:
        if key in found and len({Path(path).name for path in found[key]}) == len(set(found[key])):
            found[key] = [Path(path).name for path in found[key]]
    found = _by_choice(found, runs)
    typed = [_typed(line)[0] for run in runs for line in run.overrides]
    order = [*dict.fromkeys(key for key in (*typed, *found) if key in found and key != SEED)]
    return {key: found[key] for key in (*order, *({SEED} & found.keys()))}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"model.d_model": 96, …}`: the leaves of nested dictionaries."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """The last part of each dotted key, where no other ends in the same; else the whole."""
    last = {key: key.rpartition(".")[2] for key in keys}
    count = Counter(last.values())
    return {key: name if count[name] == 1 else key for key, name in last.items()}


def label(values: Mapping[str, str]) -> str:
    """`lr=0.001,seed=1`, as the directory of a sweep's job is called."""
    names = short_names(values)
    return ",".join(f"{names[key]}={value}" for key, value in values.items())


def _is_counted(key: str, runs: Sequence[RunFiles]) -> bool:
    """Whether a key can change figures; a path does not where every run says its text is one."""
    if key == "data.path":
        texts = {(run.results or {}).get("text") for run in runs}
        return len(texts) > 1 or None in texts
    return not any(key == ignored or key.startswith(f"{ignored}.") for ignored in IGNORED)


def _shown(key: str, config: Mapping[str, Any]) -> str:
    return shown(config[key]) if key in config else UNKNOWN


def _by_choice(found: Values, runs: Sequence[RunFiles]) -> Values:
    """The same with what a group's options explain under the group's key."""
    typed = [dict(_typed(line) for line in run.overrides) for run in runs]
    for group in dict.fromkeys(key for one in typed for key in one):
        options = [one.get(group, UNKNOWN) for one in typed]
        if not _is_group(group, runs) or UNKNOWN in options or len(set(options)) < 2:
            continue
        prefix = "" if group == "experiment" else f"{group}."
        explained = [
            key
            for key, values in found.items()
            if key.startswith(prefix)
            and not any(key in one for one in typed)
            and len(set(zip(options, values, strict=True))) == len(set(options))
        ]
        if explained:
            found = {key: v for key, v in found.items() if key not in explained}
            found = {group: options} | found
    return found


def _is_group(key: str, runs: Sequence[RunFiles]) -> bool:
    inner = runs[0].config.get(key)
    return key == "experiment" or (isinstance(inner, dict) and key not in IGNORED)


def _typed(line: str) -> tuple[str, str]:
    key, _, value = line.lstrip("+").partition("=")
    return key, value.strip("'\"")
