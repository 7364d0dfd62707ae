"""A checkpoint as a directory that transformers loads, with equal logits."""

from pathlib import Path

from omegaconf import DictConfig

from cli import Overrides, plain, refuse, run_command, user_errors


def main(composed: DictConfig, overrides: Overrides) -> None:
    """Write the model, its tokenizer and a model card to `output_dir`, or nothing."""
    from cli.exporting import directory_problems, exported_tokenizer, sampling_defaults
    from cli.keys import EXPORT, key_problems

    config = plain(composed)
    refuse(key_problems(config, EXPORT) or directory_problems(config["output_dir"]))

    import torch

    from cli.model_card import model_card  # from here on torch is loaded
    from cli.trained import load_trained
    from common.files import new_directory, write_text
    from hf.holding import hold
    from hf.writing import write

    with user_errors():
        trained = load_trained(config["checkpoint"], torch.device("cpu"))
        where = f"checkpoint={config['checkpoint']}"
        held = hold(trained.model.config, config["family"], where)
        card = model_card(trained, held, config["dtype"])
    with new_directory(Path(config["output_dir"])) as directory:
        tokenizer, sampling = exported_tokenizer(trained), sampling_defaults()
        write(directory, trained.model, tokenizer, held, config["dtype"], sampling)
        write_text(directory / "README.md", card)
    print(f"family: {held.raw['model_type']}, {held.family.architecture}")
    print(f"model: {config['output_dir']}")


if __name__ == "__main__":  # as @hydra.main, which completion in fish looks for
    run_command(main, config_name="export")
