"""The Lightning module: loss, metrics and optimizer around a plain `nn.Module`.

The loss is computed in `LanguageModule.training_step`, by `nll` at the end of this file.

B batch, S sequence, V vocabulary.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F

from training.divergence import Watch, check_validation
from training.optimizers import OptimizerConfig, build_optimizer

IGNORED = -100  # the target of a position that is not scored


class LanguageModule(L.LightningModule):
    """Next-token training of `net`, a module that maps tokens (B, S) to logits (B, S, V).

    `token_bytes` (V,) holds the UTF-8 bytes of each token's text, for bits per byte. `identity` is
    plain data that every checkpoint carries: config, tokenizer, data fingerprint, vocabulary size.
    `byte_scale`: the bytes of the validation text for each that its tokens stand for.
    `shares`: of each of several texts, by its name; a validation has a loader for each, and its
    loss is their mean by share. None: of one text.

    A batch is inputs and targets (B, S), and where documents are told apart, cu_seqlens of all its
    windows in a row (`data.packing`).
    """

    token_bytes: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        optimizer: OptimizerConfig,
        max_steps: int,
        token_bytes: Tensor,
        byte_scale: float = 1.0,
        identity: dict[str, Any],
        seed: int,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.shares = shares or {"": 1.0}
        self.optimizer_config = optimizer
        self.max_steps = max_steps
        self.identity = identity
        self.seed = seed
        self.byte_scale = byte_scale
        self.register_buffer("token_bytes", token_bytes, persistent=False)
        self.training_loss = mean_nll  # of logits and targets; `compile_training` compiles it
        self.step_losses: list[Tensor] = []  # of this optimizer step's micro-batches
        self.hint = (
            f"try a lower optimizer.lr (it is {optimizer.lr:g}) or a longer optimizer.warmup_steps"
        )
        self.watch = Watch(seed, self.hint)
        self.grad_norm = torch.zeros(())
        self.lr = optimizer.lr

    def compile_training(self, mode: str | None) -> None:
        """Compile the network, in torch.compile's `mode`, and the loss of a training step.

        In place, so that the checkpoint's keys stay clean. As one graph, so that a graph break is
        an error and not a silent loss of half the speed. The compiled loss makes no float32 copy of
        the logits, which would be large with a large vocabulary. It is never in a CUDA graph: its
        value is read after the next step has begun, which would overwrite it.
        """
        self.net.compile(fullgraph=True, mode=mode)
        self.training_loss = torch.compile(mean_nll, fullgraph=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, fused on CUDA, and a schedule that advances with every optimizer step."""
        optimizer, schedule = build_optimizer(self.net, self.optimizer_config, self.max_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout by (seed, step, rank), as the data are: resuming needs no state."""
        mixed = (self.seed * 1_000_003 + batch_idx) * 65_537 + self.global_rank
        torch.manual_seed(mixed % 2**63)
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.step_losses = []

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Mean negative log likelihood of the batch, in nats per token."""
        logits = read(self.net, *batch)
        loss = self.training_loss(logits, batch[1])
        self.step_losses.append(loss.detach())
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the global norm and keep the norm; stop here where the run has diverged.

        Lightning's own clipping refuses fused AdamW under mixed precision.
        """
        self.lr = optimizer.param_groups[0]["lr"]  # of this step: the schedule moves on after it
        largest = math.inf if gradient_clip_val is None else gradient_clip_val
        self.grad_norm = nn.utils.clip_grad_norm_(self.net.parameters(), largest)
        # With float16 an infinite gradient is the scaler's to answer: it leaves out that step.
        norm = None if self.trainer.precision == "16-mixed" else self.grad_norm
        self.watch.before_step(self.trainer.global_step + 1, self.step_losses, norm, optimizer)

    def on_validation_epoch_start(self) -> None:
        """Sums over the whole validation set of each text: nats, scored tokens and their bytes."""
        self.watch.settle()
        shape = (len(self.shares), 3)
        self.totals = torch.zeros(shape, dtype=torch.float64, device=self._sum_device())

    def validation_step(
        self, batch: tuple[Tensor, ...], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add one batch of windows to the sums, each target token once."""
        targets = batch[1]
        # `forward`, not the compiled call: another shape and mode are not worth a compilation.
        nats = nll(read(self.net.forward, *batch), targets, reduction="sum")
        scored = targets != IGNORED
        counted = self.token_bytes[targets.clamp_min(0)] * scored
        for i, value in enumerate((nats, scored.sum(), counted.sum())):
            self.totals[dataloader_idx, i] += value.to(self.totals.device)

    def on_validation_epoch_end(self) -> None:
        """Loss in nats per token and bits per byte of the original text."""
        totals = self.all_gather(self.totals)  # of every rank
        assert isinstance(totals, Tensor)
        totals = totals.reshape(-1, len(self.shares), 3).sum(0)
        # The texts as if their tokens were as many as their shares; of one text exactly its own.
        shares = totals.new_tensor([*self.shares.values()])
        scale = shares * (totals[0, 1] / totals[:, 1])
        nats, tokens, text_bytes = (totals * scale[:, None]).sum(0)
        text_bytes *= self.byte_scale
        metrics = {"val/loss": nats / tokens, "val/bpb": nats / math.log(2) / text_bytes}
        if len(self.shares) > 1:
            losses = totals[:, 0] / totals[:, 1]
            metrics |= {f"val/loss/{name}": losses[i] for i, name in enumerate(self.shares)}
        check_validation(float(metrics["val/loss"]), self.trainer.global_step, self.seed, self.hint)
        self.log_dict({name: value.float() for name, value in metrics.items()}, logger=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the identity, so that the checkpoint says what it is. Never save a diverged run."""
        self.watch.settle()
        checkpoint["ropewalk"] = self.identity

    def _sum_device(self) -> torch.device:
        # Apple's GPUs have no float64.
        return torch.device("cpu") if self.device.type == "mps" else self.device


def read(
    net: Callable[..., Tensor], inputs: Tensor, _: Tensor, cu_seqlens: Tensor | None = None
) -> Tensor:
    """Logits of a batch: (B, S, V), or (1, B S, V) where its documents are packed into a row."""
    if cu_seqlens is None:
        return net(inputs)
    return net(inputs.view(1, -1), cu_seqlens=cu_seqlens, max_seqlen=inputs.shape[1])


def mean_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of a training step: `nll`, averaged over the scored tokens."""
    return nll(logits, targets, reduction="mean")


def nll(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    """Negative log likelihood in nats of targets (B, S) under logits (B, S, V), in float32.

    The logits may be those of all windows in a row, (1, B S, V).
    """
    flat = logits.flatten(0, 1).float()
    return F.cross_entropy(flat, targets.flatten(), ignore_index=IGNORED, reduction=reduction)
