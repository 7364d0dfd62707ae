"""Text that the model generates while it is trained."""

import math
import os
import re
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from data.module import TextDataModule
from data.tokenizers import Tokenizer
from model import Transformer, generate
from training.module import LanguageModule
from training.samples_file import SAMPLES, Sample, sample_text


class Samples(L.Callback):
    """After every `every_n_validations`-th validation: a sample, in TensorBoard and samples.txt.

    The prompt is the beginning of the validation text. Sampling draws from a generator of its own,
    so that it changes no result.
    """

    def __init__(
        self,
        every_n_validations: int = 1,
        max_new_tokens: int = 160,
        temperature: float = 0.8,
        prompt_tokens: int = 16,
    ) -> None:
        if min(every_n_validations, max_new_tokens, prompt_tokens) < 1:
            raise ValueError("every_n_validations, max_new_tokens, prompt_tokens: at least 1 each")
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature={temperature}: a finite number of at least 0")
        self.every_n_validations = every_n_validations
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.prompt_tokens = prompt_tokens
        self.validations = 0
        self.bytes = 0  # of samples.txt, with what has been written so far
        self.resumed = False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know: where it is in its schedule, and the length of its file."""
        return {"validations": self.validations, "bytes": self.bytes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the schedule."""
        self.validations, self.bytes = state_dict["validations"], state_dict["bytes"]
        self.resumed = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take back the samples that came after the checkpoint."""
        path = _path(trainer)
        known = self.resumed or trainer.global_step == 0  # not by checkpoints of before
        if known and path.exists() and path.stat().st_size > self.bytes:
            os.truncate(path, self.bytes)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the validation, and write a sample after every few."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        self.validations += 1
        if self.validations % self.every_n_validations == 0:
            assert isinstance(pl_module, LanguageModule)
            data: TextDataModule = trainer.datamodule  # type: ignore[attr-defined]
            prompt, continuation = self._sample(pl_module, data)
            self._write(trainer, Sample(trainer.global_step, prompt, continuation))

    def _sample(self, module: LanguageModule, data: TextDataModule) -> tuple[str, str]:
        net = module.net
        assert isinstance(net, Transformer)
        prompt_tokens, new_tokens = self._lengths(net.config.max_length)
        prompt = data.val_tokens_array[:prompt_tokens].astype("int64")
        tokens = generate(
            net,
            torch.from_numpy(prompt)[None].to(module.device),
            max_new_tokens=new_tokens,
            temperature=self.temperature,
            seed=module.seed,
        )
        return told_apart(data.tokenizer, prompt.tolist(), list(tokens))

    def _lengths(self, most: int | None) -> tuple[int, int]:
        """Tokens of the prompt and of the sample, for a model that reads at most `most` tokens."""
        if most is None:
            return self.prompt_tokens, self.max_new_tokens
        prompt_tokens = max(1, min(self.prompt_tokens, most // 2))
        return prompt_tokens, min(self.max_new_tokens, most - prompt_tokens + 1)

    def _write(self, trainer: L.Trainer, sample: Sample) -> None:
        with open(_path(trainer), "ab") as file:
            file.write(sample_text(sample).encode())
            self.bytes = file.tell()
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("samples", markdown(sample), sample.step)


def told_apart(tokenizer: Tokenizer, prompt: list[int], new: list[int]) -> tuple[str, str]:
    """The text of a prompt and of its continuation, which together are that of both.

    A character that the prompt's last bytes only begin belongs to the continuation.
    """
    text, beginning = tokenizer.decode([*prompt, *new]), tokenizer.decode(prompt)
    if not text.startswith(beginning):
        beginning = beginning.rstrip("\N{REPLACEMENT CHARACTER}")
    return beginning, text[len(beginning) :]


def markdown(sample: Sample) -> str:
    """A sample for TensorBoard: prompt and continuation as blocks of code, so that all is inert."""
    return (
        f"**prompt**\n\n{_fenced(sample.prompt)}\n\n"
        f"**continuation**\n\n{_fenced(sample.continuation)}"
    )


def _fenced(text: str) -> str:
    """Between fences that are longer than any that the text has."""
    fence = "~" * (1 + max(map(len, ["~~", *re.findall("~+", text)])))
    return f"{fence}\n{text}\n{fence}"


def _path(trainer: L.Trainer) -> Path:
    return Path(trainer.default_root_dir) / SAMPLES
