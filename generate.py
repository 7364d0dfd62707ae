"""Text from a checkpoint, streamed as it comes."""

from typing import Any

from omegaconf import DictConfig

from cli import Overrides, plain, refuse, run_command, user_errors


def main(composed: DictConfig, overrides: Overrides) -> None:
    """Print the prompt and its continuation."""
    from cli.keys import GENERATE, key_problems

    config = plain(composed)
    refuse(key_problems(config, GENERATE) or without_effect(config, overrides))

    import torch  # from here on: mistakes above are answered at once

    from cli.trained import load_trained
    from model import generate
    from training import pick_device

    with user_errors():
        device = pick_device(config["accelerator"], "accelerator")
        trained = load_trained(config["checkpoint"], device)
        vocab_size = trained.model.config.vocab_size
        if config["top_k"] is not None and config["top_k"] >= vocab_size:
            raise ValueError(
                f"top_k={config['top_k']}: leaves out none of the model's {vocab_size} tokens; "
                f"try top_k={min(40, vocab_size // 2)}, or top_k=null"
            )
        try:
            prompt = trained.tokenizer.encode(config["prompt"]).astype("int64")
        except (ValueError, UnicodeError) as error:
            raise ValueError(f"prompt={config['prompt']!r}: {error}") from error
        most = trained.model.config.max_length
        if most is not None and len(prompt) > most:
            position = trained.model.config.position
            raise ValueError(
                f"prompt={config['prompt']!r}: {len(prompt)} tokens, of which a model with "
                f"position={position} reads {most}; take a shorter one"
            )
        tokens = generate(
            trained.model,
            torch.from_numpy(prompt)[None].to(device),
            max_new_tokens=config["max_new_tokens"],
            temperature=config["temperature"],
            top_k=config["top_k"],
            seed=config["seed"],
        )
    print(as_prompt(config["prompt"]), end="", flush=True)
    for piece in trained.tokenizer.decode_stream(tokens):
        print(piece, end="", flush=True)
    print()


def as_prompt(text: str) -> str:
    """`text` in bold where stdout is a terminal, to be told from what the model writes.

    As it is elsewhere, and where NO_COLOR is set.
    """
    from rich.console import Console

    terminal = Console()
    plain = terminal.color_system is None or terminal.no_color or terminal.legacy_windows
    return text if plain else f"\033[1m{text}\033[0m"


def without_effect(config: dict[str, Any], overrides: Overrides) -> list[str]:
    """A line for each key that was typed where there is nothing to draw."""
    if config["temperature"] == 0:
        why, keys = "temperature=0", ("top_k", "seed")
    elif config["top_k"] == 1:
        why, keys = "top_k=1", ("temperature", "seed")
    else:
        return []
    return [
        f"{typed}: has no effect with {why}, which always takes the likeliest token; leave it out"
        for typed in overrides.of(*keys)
    ]


if __name__ == "__main__":  # as @hydra.main, which completion in fish looks for
    run_command(main, config_name="generate")
