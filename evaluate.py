"""Length extrapolation of a checkpoint: lengths × methods, as table, plots and TensorBoard."""

from typing import Any

from omegaconf import DictConfig

from cli import run_command, user_errors
from cli.command import plain

SETTINGS = ("lengths", "methods", "passages", "target_tokens", "max_tokens_per_batch")
SOURCE_KEYS = ("data.corpus", "data.path")


def main(composed: DictConfig, overrides: list[str]) -> None:
    """Measure one checkpoint and leave the results beside its run, or in `output_dir`."""
    from cli.checkpoint import load_trained
    from cli.extrapolate import extrapolate
    from cli.rules import check
    from cli.rundir import evaluation_directory
    from evaluation import check_possible, check_settings
    from training import pick_device

    config = plain(composed)
    check(config, ignored(overrides))
    settings = {key: config[key] for key in SETTINGS}
    with user_errors():
        trained = load_trained(config["checkpoint"], pick_device(config["accelerator"]))
        train_length = trained.config["data"]["seq_len"]
        check_settings(train_length, **settings)
        if any(override.startswith("methods=") for override in overrides):
            check_possible(settings["methods"], trained.model.config, train_length)
        documents = validation_documents(trained, config.get("data") or trained.config["data"])
    directory = evaluation_directory(trained.run, config["output_dir"])
    print(f"{trained.path} at step {trained.step}", flush=True)
    token_bytes = trained.tokenizer.token_bytes
    extrapolate(trained.model, documents, token_bytes, train_length, settings, directory)
    print(f"results: {directory}")


def validation_documents(trained: Any, source: dict[str, Any]) -> list[Any]:
    """The validation texts of a corpus (`corpus`, `path`) in the tokens of the trained model."""
    from data import load_corpus
    from data.download import DownloadProgress

    with DownloadProgress() as on_progress:
        corpus = load_corpus(source["corpus"], path=source["path"], on_progress=on_progress)
    return [trained.tokenizer.encode(document) for document in corpus.validation]


def ignored(overrides: list[str]) -> list[str]:
    """Keys of `data` that only training reads: everything but where the text comes from."""
    return [
        f"{override}: the checkpoint decides that; only data, data.corpus and data.path count here"
        for override in overrides
        if override.startswith("data.") and override.split("=")[0] not in SOURCE_KEYS
    ]


if __name__ == "__main__":
    run_command(main, config_name="evaluate")
