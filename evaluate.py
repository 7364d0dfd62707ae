"""Length extrapolation of a checkpoint: lengths × methods, as table, plots and TensorBoard."""

import shlex
from typing import Any

from omegaconf import DictConfig

from cli import Overrides, plain, refuse, run_command, user_errors
from common.terminal import say

SETTINGS = (
    *("lengths", "methods", "measures", "passages"),
    *("target_tokens", "trials", "max_tokens_per_batch"),
)
SOURCE_KEYS = ("data.corpus", "data.path")


def main(composed: DictConfig, overrides: Overrides) -> None:
    """Measure checkpoints and leave the results beside the first one's run, or in `output_dir`."""
    from cli.keys import EVALUATE, key_problems
    from data.corpora import corpus_problems
    from evaluation import check_lengths_fit, check_settings, setting_problems, unread

    config = plain(composed)
    asked, other = {key: config[key] for key in SETTINGS}, config.get("data")
    lines = [*key_problems(config, EVALUATE), *setting_problems(asked), *ignored(overrides)]
    lines += corpus_problems(other["corpus"], other["path"]) if other else []
    refuse(lines or unread(asked, overrides.typed))

    from cli.extrapolate import extrapolate_all  # from here on torch is loaded
    from cli.rundir import evaluation_directory
    from cli.subjects import Subjects, checkpoint_paths
    from evaluation import CELLS, Cells
    from training import pick_device

    with user_errors():
        paths = checkpoint_paths(config["checkpoint"])
        device = pick_device(config["accelerator"], "accelerator")
        chosen = Subjects(paths, device, same_corpus=other is None)
        train_length = chosen.first.config["data"]["seq_len"]
        settings = check_settings(train_length, **asked)
        source = {**(other or chosen.first.config["data"]), "split": config["split"]}
        documents = held_out_documents(chosen.first.tokenizer, source)
        check_lengths_fit(config["lengths"], documents)
        check_typed(overrides, settings, chosen.first.model.config, documents)
        identity = chosen.identity(settings, documents, source)
        directory = evaluation_directory(chosen.first.run, config["output_dir"])
        cells = Cells(directory / CELLS, identity)
    for known in chosen.identities:
        say(f"{known['path']} at step {known['step']}")
    if len(cells):
        say(f"{len(cells)} finished cells found in {directory}")
    tokenizer = chosen.first.tokenizer
    how = f"go on with the same command and {shlex.quote(f'output_dir={directory}')}"
    extrapolate_all(
        *(chosen.subjects, documents, tokenizer, settings, directory, cells, how),
        formats=config["figures"],
        tensorboards=[directory / "tensorboard"],
    )
    print(f"results: {directory}")


def check_typed(overrides: Overrides, settings: Any, model: Any, documents: list[Any]) -> None:
    """ValueError where the model or the text has not what was asked for by name."""
    from evaluation import check_passages_fit, check_possible, check_text_is_enough

    check_text_is_enough(settings, documents)
    if overrides.of("methods"):
        check_possible([m.name for m in settings.methods], model, settings.train_length)
    if overrides.of("passages"):
        check_passages_fit(settings, documents)


def held_out_documents(tokenizer: Any, source: dict[str, Any]) -> list[Any]:
    """The texts of a split of a corpus (`corpus`, `path`, `split`) in the model's tokens."""
    from data import encode_whole, load_corpus
    from data.progress import WorkProgress

    with WorkProgress() as on_progress:
        corpus = load_corpus(source["corpus"], path=source["path"], on_progress=on_progress)
    texts = corpus.report if source["split"] == "report" else corpus.validation
    if not texts:
        raise ValueError(
            f"split=report: data.corpus={source['corpus']} keeps no text for it, data=books does; "
            "use split=validation"
        )
    return [encode_whole(tokenizer, text) for text in texts]


def ignored(overrides: Overrides) -> list[str]:
    """Keys of `data` that only training reads: everything but where the text comes from."""
    return [
        f"{override}: the checkpoint decides that; only data, data.corpus and data.path count here"
        for key, override in overrides.typed.items()
        if key.startswith("data.") and key not in SOURCE_KEYS
    ]


if __name__ == "__main__":  # as @hydra.main, which completion in fish looks for
    run_command(main, config_name="evaluate")
