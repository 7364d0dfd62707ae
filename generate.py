"""Text from a checkpoint, streamed as it comes."""

from typing import Any

from omegaconf import DictConfig

from cli import Overrides, plain, refuse, run_command, user_errors

# What `model.generate` is told as it stands
SETTINGS = ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def main(composed: DictConfig, overrides: Overrides) -> None:
    """Print the prompt and its continuation."""
    from cli.keys import GENERATE, key_problems

    config = plain(composed)
    refuse(key_problems(config, GENERATE) or without_effect(config, overrides))

    from cli.prompts import prompt_of, until
    from cli.trained import load_trained  # from here on torch is loaded
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
        prompt = prompt_of(config["prompt"], config["prompt_file"])
        tokens = encoded(trained, prompt, "prompt_file" if config["prompt_file"] else "prompt")
        settings = {key: config[key] for key in SETTINGS}
        stops = [stop.replace("\\n", "\n") for stop in config["stop"] or ()]
        streams = [
            generate(trained.model, tokens.to(device), seed=config["seed"] + number, **settings)
            for number in range(config["samples"])
        ]
    for number, stream in enumerate(streams, 1):
        if len(streams) > 1:
            print(f"--- sample {number} of {len(streams)} ---")
        print(as_prompt(prompt), end="", flush=True)
        for piece in until(trained.tokenizer.decode_stream(stream), stops):
            print(piece, end="", flush=True)
        print()


def encoded(trained: Any, prompt: str, key: str) -> Any:
    """The prompt in the model's tokens (1, S). ValueError where it cannot be, or is too long."""
    import torch

    shown = prompt if len(prompt) < 60 else f"{prompt[:57]}..."
    try:
        tokens = torch.from_numpy(trained.tokenizer.encode(prompt).astype("int64"))[None]
    except (ValueError, UnicodeError) as error:
        raise ValueError(f"{key}={shown!r}: {error}") from error
    most = trained.model.config.max_length
    if most is not None and tokens.shape[1] > most:
        raise ValueError(
            f"{key}={shown!r}: {tokens.shape[1]} tokens, of which a model with "
            f"position={trained.model.config.position} reads {most}; take a shorter one"
        )
    return tokens


def as_prompt(text: str) -> str:
    """`text` in bold where stdout is a terminal, to be told from what the model writes.

    As it is elsewhere, and where NO_COLOR is set.
    """
    from rich.console import Console

    terminal = Console()
    plain = terminal.color_system is None or terminal.no_color or terminal.legacy_windows
    return text if plain else f"\033[1m{text}\033[0m"


def without_effect(config: dict[str, Any], overrides: Overrides) -> list[str]:
    """A line for each key that was typed and that nothing would come of."""
    if overrides.of("prompt") and config["prompt_file"] is not None:
        return [f"{overrides.of('prompt')[0]}: has no effect with prompt_file=; leave one out"]
    if config["temperature"] == 0:
        why, keys = "temperature=0", ("top_k", "top_p", "min_p", "seed", "samples")
    elif config["top_k"] == 1:
        why, keys = "top_k=1", ("temperature", "top_p", "min_p", "seed", "samples")
    else:
        return []
    return [
        f"{typed}: has no effect with {why}, which always takes the likeliest token; leave it out"
        for typed in overrides.of(*keys)
    ]


if __name__ == "__main__":  # as @hydra.main, which completion in fish looks for
    run_command(main, config_name="generate")
