"""Text from a checkpoint, streamed as it comes."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from cli import Overrides, plain, refuse, run_command, user_errors

if TYPE_CHECKING:
    from cli.continuing import Continuing, Row


def main(composed: DictConfig, overrides: Overrides) -> None:
    """Print each prompt and its continuation, or leave them in `output`."""
    from cli.generate_check import generate_problems

    config = plain(composed)
    refuse(generate_problems(config, overrides))

    from cli.continuing import Continuing  # from here on torch is loaded
    from cli.prompts import prompts_of
    from cli.trained import load_trained
    from training import pick_device

    with user_errors():
        prompts = prompts_of(config)
        device = pick_device(config["accelerator"], "accelerator")
        continuing = Continuing.of(load_trained(config["checkpoint"], device), config)
        key = next((key for key in ("prompts", "prompt_file") if config[key]), "prompt")
        rows = continuing.rows(prompts, key)
    if config["output"] is None:
        show(continuing, rows)
    else:
        write(continuing, rows, Path(config["output"]))


def show(continuing: "Continuing", rows: "list[Row]") -> None:
    """Print every text, after a line that says which it is where there are several."""
    from cli.token_count import TokenCount

    count = TokenCount()
    for row, pieces in continuing.texts(rows, count):
        if len(rows) > 1:
            print(f"--- {row.label(rows[-1])} ---")
        print(as_prompt(row.prompt), end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
    count.tell()


def write(continuing: "Continuing", rows: "list[Row]", path: Path) -> None:
    """Write every text into a file of a JSON object on each line, whole or not at all."""
    import json

    from benchmarks import PartProgress
    from cli.token_count import TokenCount
    from common.files import write_text

    lines = []
    with PartProgress().part("generation") as progress:
        progress.expect(continuing.steps(rows))
        count = TokenCount(progress)
        for row, pieces in continuing.texts(rows, count):
            text = {"prompt": row.prompt, "text": "".join(pieces), "sample": row.sample}
            lines.append(json.dumps(text | {"seed": row.seed}, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))
    count.tell()
    print(f"texts: {path}")


def as_prompt(text: str) -> str:
    """`text` in bold where stdout is a terminal, to be told from what the model writes.

    As it is elsewhere, and where NO_COLOR is set.
    """
    from rich.console import Console

    terminal = Console()
    plain = terminal.color_system is None or terminal.no_color or terminal.legacy_windows
    return text if plain else f"\033[1m{text}\033[0m"


if __name__ == "__main__":  # as @hydra.main, which completion in fish looks for
    run_command(main, config_name="generate")
