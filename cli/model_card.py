"""README.md of an exported model: what it is, how to load it, and what its run has measured.

A figure stands there only if the run holds it and it is that of the exported checkpoint.
"""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from cli.trained import Trained
from hf.holding import Held
from reports.run_files import RunFiles

_HEAD = """---
library_name: transformers
pipeline_tag: text-generation
tags:
- ropewalk
---
"""
_USE = """## Use

With transformers 5 or later, in this directory:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
prompt = tokenizer("\\n", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt)[0]))
```
"""
_NO_FIGURES = "No figures were measured of this checkpoint."


def model_card(trained: Trained, held: Held, dtype: str) -> str:
    """The text of the card. ValueError where a file of the run is damaged."""
    results, extrapolation = _measured(trained)
    name = trained.config.get("name") or trained.run.name
    count = trained.model.num_parameters()
    parts = [
        f"{_HEAD}\n# {name}",
        f"A decoder-only transformer of {count:,} parameters, exported by Ropewalk as "
        f"{held.family.architecture} in {dtype}.",
        _table([("", ""), ("", "")], _about(trained, results)),
        *(_reach(extrapolation) if extrapolation else []),
        *([] if results else [_NO_FIGURES]),
    ]
    return "\n\n".join([*parts, _USE])


def _measured(trained: Trained) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """results.json and extrapolation.json of the run, where they are of this checkpoint."""
    if not (trained.run / "results.json").is_file():
        return None, None
    files = RunFiles.read(trained.run)
    if files.results is None or files.results.get("best_step") != trained.step:
        return None, None
    return files.results, files.extrapolation


def _about(trained: Trained, results: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What it was trained on, and how well it did."""
    config, data = trained.model.config, trained.config["data"]
    scaling = config.scaling
    by = f" by {scaling.factor:g}" if scaling.factor is not None else ""
    rows = [
        ("tokenizer", f"{trained.tokenizer.name}, {trained.tokenizer.vocab_size:,} tokens"),
        ("position", config.position),
        ("scaling", f"{scaling.method}{by}"),
        ("training length", f"{config.train_length:,} tokens"),
    ]
    if data.get("corpus"):  # else the model was trained elsewhere
        path = data.get("path")  # not where it lies on this machine
        name = f", {PurePath(str(path)).name}" if path else ""
        rows = [("text", f"{data['corpus']}{name}"), *rows, ("step", f"{trained.step:,}")]
    if source := trained.config.get("init_from"):
        begun = PurePath(str(source))
        rows.insert(0, ("weights begun from", begun.name if begun.is_absolute() else str(source)))
    if results is not None:
        if results.get("tokens") is not None:
            rows.append(("tokens of the run", f"{results['tokens']:,}"))
        rows.append(("val/loss", f"{results['val/loss']:.4f} nats per token"))
        rows.append(("val/bpb", f"{results['val/bpb']:.4f} bits per byte"))
    return rows


def _reach(found: dict[str, Any]) -> list[str]:
    """Bits per byte of every method at every length, as extrapolation.json has them."""
    lengths = found["lengths"]
    heads = [(f"{n:,} ({n / found['train_length']:.3g}x)", "---:") for n in lengths]
    rows = [
        (name, *("" if bits is None else f"{bits:.4f}" for bits in figures["bpb"]))
        for name, figures in found["methods"].items()
        if "bpb" in figures
    ]
    lines = found.get("protocol", {}).get("methods", {})
    return [
        "## Reading past the training length",
        "Bits per byte of the same text, with growing context; an empty cell was not measured. "
        "The files here hold the model as it was trained, `none`; the other methods change it "
        "while it reads.",
        _table([("method", "---"), *heads], rows),
        "\n".join(f"- `{name}`: {line}" for name, line in lines.items()),
    ]


def _table(heads: list[tuple[str, str]], rows: Sequence[tuple[str, ...]]) -> str:
    """Markdown; each head with the line below it."""
    lines = [[head for head, _ in heads], [below or "---" for _, below in heads], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
