"""Whether a model and its batches can fit into a device's memory, before any of it is made."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.config import TransformerConfig
from model.flops import matmul_parameters

# Weights, gradients and AdamW's two moments, in float32 or in 16 bits
BYTES_PER_PARAMETER, BYTES_IN_16_BITS = 16, 8


def memory_problems(
    config: Mapping[str, Any], model: TransformerConfig, device: torch.device
) -> list[str]:
    """A line for weights, and one for a batch, that are larger than all of the memory.

    Both are estimates from below: what passes may still be too large, what does not never fits.
    """
    memory, lines = device_memory(device), []
    short = config["trainer"]["precision"] in ("bf16-true", "16-true")
    weights = (BYTES_IN_16_BITS if short else BYTES_PER_PARAMETER) * matmul_parameters(model)
    if weights > memory:
        lines.append(
            f"model.d_model={model.d_model}, model.n_layers={model.n_layers}: a model that needs "
            f"{_size(weights)} to train, of {_size(memory)} on this device; try model=nano"
        )
    data = config["data"]
    # Tokens and targets as int64, and in 16 bits the logits and, for each layer's backward, at
    # least one activation
    per_token = 16 + 2 * model.d_model * model.n_layers + 2 * model.vocab_size
    batch = data["batch_size"] * data["seq_len"] * per_token
    if batch > memory:
        lines.append(
            f"data.batch_size={data['batch_size']}, data.seq_len={data['seq_len']}: a batch that "
            f"needs at least {_size(batch)}, of {_size(memory)} on this device; try "
            "data.batch_size=8 data.seq_len=256"
        )
    return lines


def device_memory(device: torch.device) -> int:
    """Bytes of memory that a device has; of the machine's, what this process may take."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(memory, int(text)) if text.isdigit() else memory


def _size(number: int) -> str:
    return f"{number / 2**30:,.1f} GiB"
