"""What sets runs apart: the keys of their configs that differ, by which they are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.dotted import leaves
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
    flats = [leaves(run.config) for run in runs]
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
