"""What a run says of itself, once at its start and once at its end."""

import shlex
from pathlib import Path
from typing import Any

import torch

from common.terminal import say
from training import Run
from training.ended import MAX_STEPS
from training.phases import describe
from training.prepare import Prepared


def announce(run: Run) -> None:
    """Device, backend, size, data and where everything goes."""
    prepared, config = run.prepared, run.prepared.config
    device = prepared.device.type
    if device == "cuda":
        device = torch.cuda.get_device_name(prepared.device)
    tokens = config["trainer"]["max_steps"] * run.metrics.tokens_per_step
    rows: dict[str, Any] = {
        "run": run.directory,
        "model": f"{prepared.net.num_parameters():,} parameters, position={config['position']}",
        "rope": f"{prepared.backend} backend, asked for: {config['rope']['backend']}",
        "data": f"{_text(prepared)}, {prepared.data.fingerprint['n_train_tokens']:,} tokens",
        "train": f"{config['trainer']['max_steps']:,} steps, {tokens:,} tokens on {device}",
    }
    if run.tensorboards:
        rows["curves"] = f"tensorboard --logdir {shlex.quote(str(run.directory))}"
    for row, text in describe(config):
        rows[row] += f", {text}"
    if run.checkpoint and run.resume_point:
        rows["resumed"] = f"at step {run.resume_point.step:,}, {run.checkpoint}"
    elif config["init_from"] is not None:
        rows["weights"] = f"those of {config['init_from']}, to begin with"
    for line in _lines(rows):
        say(line)


def _text(prepared: Prepared) -> str:
    """The corpus; of a mixture, what each gives of the training windows."""
    shares = prepared.data.named_shares
    if len(shares) == 1:
        return str(prepared.config["data"]["corpus"])
    return " + ".join(f"{share:.0%} {name}" for name, share in shares.items())


def summarize(run: Run, results: dict[str, Any], page: Path) -> None:
    """The headline figures, the directory that holds the rest, and the page that shows it."""
    rate = results["tokens_per_second"]
    speed = f"{rate:,.0f} tokens/s" if rate else "too few steps for a rate"
    mfu = f", {results['mfu']:.1%} of the device's bf16 peak" if results["mfu"] else ""
    rows: dict[str, Any] = {
        "val/loss": f"{results['val/loss']:.4f} nats per token (best, "
        f"step {results['best_step']}), {results['val/bpb']:.3f} bits per byte",
        "speed": f"{speed}{mfu}; {results['seconds']:.0f} s in all",
        "run": run.directory,
        "report": page,
    }
    ended = {} if results["ended"] == MAX_STEPS else {"ended": results["why_ended"]}
    print(*_lines(ended | rows), sep="\n", flush=True)


def _lines(rows: dict[str, Any]) -> list[str]:
    # Without rich, which cuts long paths and reads [a] for markup: they are there to be copied.
    width = max(map(len, rows))
    return [f"{name:{width}}  {value}" for name, value in rows.items()]
