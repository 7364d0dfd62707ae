"""Generating under every method past the training length: as full passes predict."""

import pytest
import torch

from commands import some
from methods.apply import applied
from methods.method import METHODS, parse_method
from methods.registry import MAPS
from model import ScalingConfig, Transformer, TransformerConfig, generate, generate_batch
from model.decoding_graph import GraphReader, graph_refusal, static_refusal

LENGTH, NEW = 6, 14
NAMES = ["yarn", "self-extend+logn", "crop", "sinks", "dynamic"]
NAMES += [name for name in (*METHODS, *MAPS, "yarn@8", "logn", "ntk+logn") if name not in NAMES]


def make(**options: object) -> Transformer:
    torch.manual_seed(1)
    sizes = {"vocab_size": 40, "n_layers": 2, "d_model": 32, "n_heads": 2, "backend": "pytorch"}
    always = {"train_length": LENGTH, "tied_head": False}  # a tied one repeats itself
    model = Transformer(TransformerConfig(**(sizes | always | options)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.double().eval()


def with_factors(name: str) -> dict:
    own = {"short_factor": [1.0] * 8, "long_factor": [3.0] * 8}
    return {"scaling": ScalingConfig("longrope", 4.0, LENGTH, own)} if name == "longrope" else {}


@pytest.mark.parametrize("name", some(NAMES, default=5))
def test_every_token_is_the_likeliest_of_a_full_pass(name: str) -> None:
    model, prompt = make(**with_factors(name)), torch.tensor([[3, 1, 4, 1]])
    lengths = {"context": prompt.shape[1] + NEW, "train_length": LENGTH}
    plain = list(generate(model, prompt, max_new_tokens=NEW, temperature=0))
    with applied(parse_method(name), model, **lengths) as ready, torch.no_grad():
        new = list(generate(ready, prompt, max_new_tokens=NEW, temperature=0))
        read = torch.cat((prompt, torch.tensor([new])), dim=1)
        for n in range(NEW):
            so_far = read[:, : prompt.shape[1] + n]
            assert new[n] == int(ready(so_far)[0, -1].argmax()), n
    assert len(set(new)) > 3 and not model.training
    assert (new == plain) == (name == "none")


@pytest.mark.parametrize("name", some(["crop", "rerope", "yarn@8"], default=1))
def test_prompts_together_under_a_method(name: str) -> None:
    model, prompts = make(), [torch.arange(n) for n in (3, 8, 3, 5)]
    settings = {"max_new_tokens": NEW, "temperature": 0}
    with applied(parse_method(name), model, context=8 + NEW, train_length=LENGTH) as ready:
        rows = [list(row) for row in generate_batch(ready, prompts, **settings)]
        assert rows == [list(generate(ready, p[None], **settings)) for p in prompts]


def test_crop_goes_past_the_positions_that_were_learned() -> None:
    model, prompt = make(position="learned"), torch.arange(4)[None]
    with pytest.raises(ValueError, match="try max_new_tokens=3"):
        generate(model, prompt, max_new_tokens=NEW)
    with applied(parse_method("crop"), model, context=4 + NEW, train_length=LENGTH) as ready:
        assert len(list(generate(ready, prompt, max_new_tokens=NEW))) == NEW


@pytest.mark.parametrize("name", ["yarn", "ntk+logn"])
def test_a_static_step_follows_a_scaling(name: str) -> None:
    model, prompt = make(), torch.tensor([[3, 1, 4, 1]])
    with applied(parse_method(name), model, context=4 + NEW, train_length=LENGTH), torch.no_grad():
        assert static_refusal(model) is None
        read, tokens = GraphReader(model, None, 1, 4 + NEW), prompt
        for _ in range(NEW):
            new = read(tokens).argmax(-1, keepdim=True)
            prompt = torch.cat((prompt, new), dim=1)
            tokens = new
        assert torch.equal(prompt[:, 4:], model(prompt[:, :-1])[:, 3:].argmax(-1))


def test_what_bends_or_crops_is_decoded_step_by_step() -> None:
    model, lengths = make(), {"context": 4 + NEW, "train_length": LENGTH}
    with applied(parse_method("rerope"), model, **lengths) as ready:
        assert static_refusal(ready) == "a layer attends in a way of its own"
    with applied(parse_method("crop"), model, **lengths) as ready:
        assert graph_refusal(ready) == "the end of the text is read anew at every step"
