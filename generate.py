"""Text from a checkpoint, streamed as it comes."""

from collections.abc import Iterator

from omegaconf import DictConfig

from cli import run_command, user_errors
from cli.command import plain


def main(composed: DictConfig, overrides: list[str]) -> None:
    """Print the prompt and its continuation."""
    import torch

    from cli.checkpoint import load_trained
    from cli.rules import check
    from model import generate
    from training import pick_device

    config = plain(composed)
    check(config)
    with user_errors():
        device = pick_device(config["accelerator"], "accelerator")
        trained = load_trained(config["checkpoint"], device)
        try:
            prompt = trained.tokenizer.encode(config["prompt"]).astype("int64")
        except (ValueError, UnicodeError) as error:
            raise ValueError(f"prompt={config['prompt']!r}: {error}") from error
        tokens = generate(
            trained.model,
            torch.from_numpy(prompt)[None].to(device),
            max_new_tokens=config["max_new_tokens"],
            temperature=config["temperature"],
            top_k=config["top_k"],
            seed=config["seed"],
        )
    print(config["prompt"], end="", flush=True)
    for piece in pieces(trained.tokenizer, tokens):
        print(piece, end="", flush=True)
    print()


def pieces(tokenizer: object, tokens: Iterator[int]) -> Iterator[str]:
    """Text as it becomes whole: a character of several byte tokens waits for its last."""
    pending: list[int] = []
    for token in tokens:
        pending.append(token)
        text = tokenizer.decode(pending)
        if not text.endswith("\ufffd") or len(pending) >= 4:
            yield text
            pending = []
    if pending:
        yield tokenizer.decode(pending)


if __name__ == "__main__":
    run_command(main, config_name="generate")
