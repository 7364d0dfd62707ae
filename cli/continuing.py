"""Continuing the prompts of generate.py: in batches, under a method, text by text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cli.keys import SAMPLING
from cli.prompts import until
from cli.token_count import TokenCount
from cli.trained import Trained
from common.rules import refuse
from methods.apply import applied
from methods.method import Method, parse_method
from model import generate_batch
from model.decoding import longest
from model.decoding_graph import graph_refusal
from model.generation import prompt_problems


class Row(NamedTuple):
    """A text to come."""

    prompt: str
    tokens: Tensor  # of the prompt, (S,)
    number: int  # of the prompt, from 1
    sample: int  # from 1
    seed: int

    def label(self, last: Row) -> str:
        """Which text it is, of those up to the last one."""
        kinds = {"prompt": (self.number, last.number), "sample": (self.sample, last.sample)}
        return ", ".join(f"{kind} {n} of {all_}" for kind, (n, all_) in kinds.items() if all_ > 1)


@dataclass(frozen=True)
class Continuing:
    """A model, and how it is to continue prompts."""

    trained: Trained
    config: dict[str, Any]  # of generate.py
    method: Method
    end: int | None  # the token that ends a text

    @classmethod
    def of(cls, trained: Trained, config: dict[str, Any]) -> Continuing:
        """ValueError for what the model cannot do."""
        method, train_length = parse_method(config["method"]), _train_length(trained)
        if reason := method.refusal(trained.model.config, train_length):
            raise ValueError(f"method={config['method']}: {reason}")
        vocab_size, top_k = trained.tokenizer.vocab_size, config["top_k"]
        if top_k is not None and top_k >= vocab_size:
            raise ValueError(
                f"top_k={top_k}: leaves out none of the model's {vocab_size} tokens; "
                f"try top_k={min(40, vocab_size // 2)}, or top_k=null"
            )
        return cls(trained, config, method, _end(trained, config))

    def rows(self, prompts: list[str], key: str) -> list[Row]:
        """Every sample of every prompt. ValueError where one cannot be continued; `key` is where
        the prompts come from."""
        config = self.config
        tokens = [encoded(self.trained, prompt, key) for prompt in prompts]
        with self._ready(max(map(len, tokens))) as model:
            for prompt, ids in zip(prompts, tokens, strict=True):
                check_length(model, ids, f"{key}={_shown(prompt)}")
            refuse(prompt_problems(model, tokens, config["max_new_tokens"]))
            if config["cuda_graph"] is True and (reason := graph_refusal(model)):
                raise ValueError(f"cuda_graph=true: {reason}; leave it out")
        return [
            Row(prompt, ids, number, sample, config["seed"] + sample - 1)
            for number, (prompt, ids) in enumerate(zip(prompts, tokens, strict=True), 1)
            for sample in range(1, config["samples"] + 1)
        ]

    def texts(self, rows: list[Row], count: TokenCount) -> Iterator[tuple[Row, Iterator[str]]]:
        """Each row, in order, with the pieces of its text as they come.

        A text must be read before the next is asked for. Those of one batch are computed together.
        """
        settings = {key: self.config[key] for key in SAMPLING}
        graph = bool(self.config["cuda_graph"])
        stops = [stop.replace("\\n", "\n") for stop in self.config["stop"] or ()]
        tokenizer = self.trained.tokenizer
        for batch in self._batches(rows):
            with self._ready(max(len(row.tokens) for row in batch)) as model:
                streams = generate_batch(
                    model,
                    [row.tokens for row in batch],
                    seeds=[row.seed for row in batch],
                    end=self.end,
                    vocab_size=tokenizer.vocab_size,
                    graph=graph,
                    **settings,
                )
                count.batch("" if graph_refusal(model) or not graph else "CUDA graphs")
                for row, stream in zip(batch, streams, strict=True):
                    new, before = count.tokens(stream), row.tokens.tolist()
                    yield row, until(tokenizer.decode_stream(new, before), stops)
                    stream.close()  # type: ignore[attr-defined]  # it may have met a stop

    def steps(self, rows: list[Row]) -> int:
        """At most how many tokens are computed one after the other."""
        return len(list(self._batches(rows))) * int(self.config["max_new_tokens"])

    def _ready(self, prompt_tokens: int) -> AbstractContextManager[Any]:
        """The model under the method, for prompts of so many tokens."""
        lengths = {"context": prompt_tokens + self.config["max_new_tokens"]}
        lengths["train_length"] = _train_length(self.trained)
        return applied(self.method, self.trained.model, **lengths)

    def _batches(self, rows: list[Row]) -> Iterator[list[Row]]:
        """Rows in order; of one length each, where the method follows it or fills up no rows."""
        method = self.method
        apart = method.follows_length or method.map is not None or method.crop
        batch: list[Row] = []
        for row in rows:
            other = apart and bool(batch) and len(row.tokens) != len(batch[0].tokens)
            if other or len(batch) == self.config["batch_size"]:
                yield batch
                batch = []
            batch.append(row)
        yield batch


def _train_length(trained: Trained) -> int:
    return int(trained.config["data"]["seq_len"])


def _end(trained: Trained, config: dict[str, Any]) -> int | None:
    if not config["stop_at_separator"]:
        return None
    end = trained.tokenizer.separator
    if end < 0:
        raise ValueError(
            "stop_at_separator=true: the tokenizer has no token that ends a document; give stop="
        )
    return end


def encoded(trained: Trained, prompt: str, key: str) -> Tensor:
    """The prompt in the model's tokens (S,), with those that its contexts begin with.

    ValueError where it cannot be.
    """
    try:
        ids = trained.tokenizer.encode(prompt).tolist()
        return torch.tensor([*trained.beginning, *ids])
    except (ValueError, UnicodeError) as error:
        raise ValueError(f"{key}={_shown(prompt)}: {error}") from error


def check_length(model: Any, tokens: Tensor, typed: str) -> None:
    """ValueError for a prompt (S,) of more tokens than the model reads."""
    most = longest(model)
    if most is not None and len(tokens) > most:
        raise ValueError(
            f"{typed}: {len(tokens)} tokens, of which a model with "
            f"position={model.config.position} reads {most}; take a shorter one"
        )


def _shown(prompt: str) -> str:
    return repr(prompt if len(prompt) < 60 else f"{prompt[:57]}...")
