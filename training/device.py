"""The device that a command runs on."""

import torch


def pick_device(accelerator: str, key: str = "trainer.accelerator") -> torch.device:
    """The device that Lightning's `accelerator` means here.

    ValueError, naming the config key `key`, for a GPU that is absent.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    if accelerator in ("gpu", "cuda", "mps"):
        kind = "Apple" if accelerator == "mps" else "CUDA"
        raise ValueError(f"{key}={accelerator}: no {kind} GPU is visible; try {key}=auto")
    return torch.device("cpu")


def check_precision(precision: str, device: torch.device) -> None:
    """float16 on a CPU would be run as something else by Lightning: refuse it."""
    if precision.startswith("16-") and device.type == "cpu":
        raise ValueError(
            f"trainer.precision={precision}: float16 needs a GPU; trainer.precision=bf16-mixed or "
            "32-true work on a CPU"
        )
