"""Length extrapolation of a checkpoint: lengths × methods, as table, plots and TensorBoard."""

import shlex
from collections.abc import Callable
from functools import partial
from typing import Any

from omegaconf import DictConfig

from cli import Overrides, plain, refuse, run_command, user_errors
from common.terminal import say

SETTINGS = (
    *("lengths", "methods", "measures", "passages"),
    *("target_tokens", "trials", "max_tokens_per_batch"),
)


def main(composed: DictConfig, overrides: Overrides) -> None:
    """Measure checkpoints and leave the results beside the first one's run, or in `output_dir`."""
    from cli.keys import EVALUATE, key_problems
    from cli.paths import column_problems, scored_text_problems
    from data.mixes import text_problems
    from evaluation import check_lengths_fit, check_settings, setting_problems, unread

    config = plain(composed)
    asked, other = {key: config[key] for key in SETTINGS}, config.get("data")
    lines = [*key_problems(config, EVALUATE), *setting_problems(asked), *ignored(overrides)]
    lines += text_problems({**other, "weights": None}) if other else []
    lines = lines or [*column_problems(config), *scored_text_problems(config)]
    refuse(lines or unread(asked, overrides.typed))

    from cli.columns import check_kind, open_columns  # from here on torch is loaded
    from cli.extrapolate import extrapolate_all, extrapolate_columns
    from cli.held_out import check_typed, held_out_documents
    from cli.rundir import evaluation_directory
    from cli.subjects import Subjects, checkpoint_paths
    from evaluation import CELLS, Cells
    from training import pick_device

    kind = config["as"]
    with user_errors():
        paths = checkpoint_paths(config["checkpoint"])
        device = pick_device(config["accelerator"], "accelerator")
        chosen = Subjects(paths, device, same_corpus=other is None, same_model=kind == "mean")
        settings = check_settings(min(chosen.train_lengths), **asked)
        text = other or chosen.first.config["data"]
        split = config["split"] or ("all" if chosen.any_foreign else "validation")
        source = {**text, "split": split}
        documents = held_out_documents(chosen.first.tokenizer, text, split)
        check_lengths_fit(config["lengths"], documents)
        check_typed(overrides, settings, chosen, documents)
        directory = evaluation_directory(chosen.first.evaluations, config["output_dir"])
        check_kind(directory, kind)
        measure: Callable[..., Any]  # of text, tokenizer, and where to leave what is found
        if kind == "columns":
            columns = open_columns(chosen, settings, documents, source, directory)
            names, stores = [f"{c.label}: " for c in columns], [c.cells for c in columns]
            measure = partial(extrapolate_columns, columns)
        else:
            cells = Cells(directory / CELLS, chosen.identity(settings, documents, source))
            names, stores = [""] * len(paths), [cells]
            curves = [directory / "tensorboard"]
            measure = partial(
                extrapolate_all, chosen.subjects, settings, cells, tensorboards=curves
            )
    for name, known in zip(names, chosen.identities, strict=True):
        step = "" if known["step"] is None else f" at step {known['step']}"
        say(f"{name}{known['path']}{step}")
    if found := sum(map(len, stores)):
        say(f"{found} finished cells found in {directory}")
    how = f"go on with the same command and {shlex.quote(f'output_dir={directory}')}"
    measure(documents, chosen.first.tokenizer, directory, how, config["figures"])
    print(f"results: {directory}")


def ignored(overrides: Overrides) -> list[str]:
    """Keys of `data` that only training reads: everything but where the text comes from."""
    from data.origin import KEYS

    counting = [f"data.{key}" for key in KEYS]
    return [
        f"{override}: the checkpoint decides that; only where the text comes from counts here"
        for key, override in overrides.typed.items()
        if key.startswith("data.") and key not in counting
    ]


if __name__ == "__main__":  # as @hydra.main, which completion in fish looks for
    run_command(main, config_name="evaluate")
