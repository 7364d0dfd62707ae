"""Generation: tokens per second of a random model of Llama's form, beside transformers' `generate`.

Shapes: B prompts, S tokens of each.
"""

import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.failures import recorded
from benchmarks.tables import caption, new_table, number
from benchmarks.timing import interleaved, median_ratio, release
from hf.holding import hold
from hf.weights_out import tensors
from model import Transformer, TransformerConfig, generate_batch
from model.decoding_graph import NoGraph, graph_refusal

PROMPT_TOKENS, LONGEST = 32, 2**16
SIZE: dict[str, Any] = {  # SmolLM2-135M's
    "vocab_size": 49152,
    "n_layers": 30,
    "d_model": 576,
    "n_heads": 9,
    "n_kv_heads": 3,
    "mlp_hidden": 1536,
}
OURS, THEIRS = "ropewalk", "transformers"
VARIANTS = {
    OURS: "step by step",
    "ropewalk-graph": "a CUDA graph for each doubling of the length, captured within the time",
    THEIRS: "generate, with its default cache",
    "transformers-static": 'generate(cache_implementation="static"), which compiles its step',
}

HOW = (
    "greedy, bfloat16 on a GPU, the same random weights; seconds of a whole call, the prompt's "
    "forward within it: medians over rounds, in each of which every variant runs once in shuffled "
    "order, after a call of its own to warm up. of_transformers is the median of the ratios of "
    "tokens/s within a round; same_tokens how many tokens of a row, of the first that differs from "
    "ropewalk's on, are the same on average: kernels round differently, and random weights leave "
    "many tokens alike"
)

Variant = Callable[[Tensor, int], Tensor]  # prompts (B, S), new tokens -> those (B, new)


def decode(settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """Tokens per second of every variant, for every number of prompts."""
    new, rounds = settings["decode_tokens"], settings["decode_rounds"]
    names = [name for name in VARIANTS if name in settings["decode_variants"]]
    bench.progress.expect(len(settings["decode_batches"]) * (len(names) + rounds))
    variants, reasons = _variants(names, bench)
    batches = {}
    for batch in settings["decode_batches"]:
        prompts = _prompts(batch, bench)
        samplers: dict[str, Callable[[], float]] = {}
        tokens: dict[str, Tensor] = {}
        failed = dict(reasons)
        for name in names:
            bench.progress.step(f"{batch}: {name}")
            if name in variants:
                with recorded(name, failed):
                    tokens[name] = variants[name](prompts, new)  # warms up, and may compile
                    samplers[name] = partial(_seconds, variants[name], prompts, new)
        on_round = partial(bench.progress.step, f"{batch}: rounds")
        times = interleaved(samplers, rounds, bench.seed, on_round)
        figures = {name: _figures(name, times, tokens, batch * new) for name in times}
        batches[str(batch)] = {"variants": figures, "reasons": failed}
        release()
    return {"how": HOW, "prompt_tokens": PROMPT_TOKENS, "new_tokens": new, "batches": batches}


def _prompts(batch: int, bench: Bench) -> Tensor:
    """Random tokens (B, S)."""
    generator = torch.Generator().manual_seed(bench.seed)
    shape = (batch, PROMPT_TOKENS)
    return torch.randint(SIZE["vocab_size"], shape, generator=generator).to(bench.device)


def _variants(names: list[str], bench: Bench) -> tuple[dict[str, Variant], dict[str, str]]:
    """What continues prompts under each name, and the reasons of those that cannot."""
    made: dict[str, Variant] = {}
    reasons: dict[str, str] = {}
    ours = build(bench)
    theirs: Any = None
    with recorded(THEIRS, reasons):
        theirs = as_llama(ours) if any(name.startswith(THEIRS) for name in names) else None
    for name in names:
        if name.startswith(THEIRS):
            if theirs is None:
                reasons[name] = reasons[THEIRS]
                continue
            made[name] = partial(_theirs, theirs, name != THEIRS)
        elif name != OURS and (reason := graph_refusal(ours)):
            reasons[name] = reason
        else:
            made[name] = partial(_ours, ours, name != OURS)
    return made, {name: reason for name, reason in reasons.items() if name in names}


def build(bench: Bench) -> Transformer:
    """Our model of that size, in eval mode."""
    torch.manual_seed(bench.seed)
    net = Transformer(TransformerConfig(**SIZE, interleaved=False, tied_head=True))
    dtype = torch.bfloat16 if bench.device.type == "cuda" else torch.float32
    return net.to(bench.device, dtype).eval()


def as_llama(net: Transformer) -> Any:
    """transformers' model with the same weights, on the same device and in the same dtype."""
    if importlib.util.find_spec("transformers") is None:
        raise ModuleNotFoundError("transformers is not installed")
    from transformers import LlamaConfig, LlamaForCausalLM

    config, weight = net.config, net.embedding.weight
    held = hold(replace(config, train_length=LONGEST), "llama", "decode")
    ends: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    llama: Any = LlamaForCausalLM(LlamaConfig(**held.raw, **ends))
    llama = llama.to(weight.device, weight.dtype).eval()
    weights = tensors(net.state_dict(), config, held, weight.dtype)
    found = llama.load_state_dict(weights, strict=False)
    assert found.missing_keys == ["lm_head.weight"], found  # which is the embedding
    return llama


def _ours(net: Transformer, graph: bool, prompts: Tensor, new: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoGraph)
        rows = generate_batch(net, list(prompts), max_new_tokens=new, temperature=0, graph=graph)
        return torch.tensor([list(row) for row in rows])


def _theirs(llama: Any, static: bool, prompts: Tensor, new: int) -> Tensor:
    cache = {"cache_implementation": "static"} if static else {}
    tokens = llama.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=False,
        **cache,
    )
    return tokens[:, prompts.shape[1] :].cpu()


def _seconds(variant: Variant, prompts: Tensor, new: int) -> float:
    """Of a call, which ends with the tokens on the CPU."""
    if prompts.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    variant(prompts, new)
    return time.perf_counter() - start


def _figures(
    name: str, times: Mapping[str, list[float]], tokens: Mapping[str, Tensor], count: int
) -> dict[str, Any]:
    ratio = median_ratio(times[THEIRS], times[name]) if THEIRS in times else None
    return {
        "tokens_per_second": round(count / float(np.median(times[name])), 1),
        "rounds_seconds": [round(seconds, 4) for seconds in times[name]],
        "of_transformers": ratio,
        "same_tokens": same_tokens(tokens[name], tokens[OURS]) if OURS in tokens else None,
    }


def same_tokens(tokens: Tensor, others: Tensor) -> float:
    """How many of (B, new) are the same before the first that differs, on average over rows."""
    return round(float((tokens == others).long().cumprod(dim=1).sum(dim=1).double().mean()), 1)


def tables(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A table for each number of prompts."""
    for batch, cell in result["batches"].items():
        title = f"Generating {result['new_tokens']} tokens after {batch} prompts of "
        title += f"{result['prompt_tokens']}, a model of 135M"
        table = new_table(title, "variant", "tokens/s", "× transformers", "same tokens")
        for name, figures in cell["variants"].items():
            ratio = number(figures["of_transformers"], ".2f")
            same = number(figures["same_tokens"], ".1f")
            table.add_row(name, f"{figures['tokens_per_second']:,.0f}", ratio, same)
        table.caption = caption("greedy; medians of whole calls", cell["reasons"])
        yield table
