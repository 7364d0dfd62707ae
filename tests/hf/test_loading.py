"""Weights out of a folder: shards, types, tied heads, and files that are damaged or hostile."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import hf
from commands import ROOT
from folders import LLAMA, tensors, write_config, write_folder, write_index, write_shards
from hf.loading import _dtype_of
from hf.weights import stored_weights

TOKENS = torch.arange(12).reshape(2, 6) + 3
GEMMA3 = {
    **{key: LLAMA[key] for key in LLAMA if key != "architectures"},
    "model_type": "gemma3_text",
    "head_dim": 8,
}


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(TOKENS)


def put(folder: Path, stored: dict[str, Tensor], **changed: Any) -> Path:
    """A folder of these tensors, with the config.json of the small Llama."""
    write_config(folder, {**LLAMA, **changed})
    save_file({name: x.clone() for name, x in stored.items()}, folder / "model.safetensors")
    return folder


# What is read


def test_one_file_and_its_shards_are_the_same_model(tmp_path: Path) -> None:
    model, stored = tensors(LLAMA)
    one = hf.load(put(tmp_path / "one", stored), "cpu")
    write_shards(write_config(tmp_path / "many", LLAMA), stored)
    many = hf.load(tmp_path / "many", "cpu")
    assert torch.equal(logits(one), logits(model))
    assert torch.equal(logits(many), logits(model))
    assert one.config == many.config == model.config
    assert not one.training
    assert all(parameter.requires_grad for parameter in one.parameters())


def test_the_weights_do_not_depend_on_the_file_once_they_are_read(tmp_path: Path) -> None:
    written = write_folder(tmp_path)
    model = hf.load(tmp_path, "cpu")
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    assert torch.equal(logits(model), logits(written))


@pytest.mark.parametrize("stored_as", [torch.bfloat16, torch.float16, torch.float64])
def test_types_of_numbers(stored_as: torch.dtype, tmp_path: Path) -> None:
    _, stored = tensors(LLAMA)
    put(tmp_path, {name: x.to(stored_as) for name, x in stored.items()})
    embedding = stored["model.embed_tokens.weight"].to(stored_as)
    on_cpu, half = hf.load(tmp_path, "cpu"), hf.load(tmp_path, "cpu", dtype=torch.bfloat16)
    assert torch.equal(on_cpu.embedding.weight, embedding.float())
    assert torch.equal(half.embedding.weight, embedding.bfloat16())
    # What a GPU would get
    assert _dtype_of(stored_weights(tmp_path, str, "")) == stored_as


def test_the_one_of_gemmas_norms_is_added_before_rounding(tmp_path: Path) -> None:
    _, stored = tensors(GEMMA3)
    small = torch.full((16,), 2.0**-9, dtype=torch.bfloat16)  # lost in 1 + w of bfloat16
    stored = {name: x.bfloat16() for name, x in stored.items()} | {"model.norm.weight": small}
    model = hf.load(put(tmp_path, stored, **GEMMA3), "cpu")
    assert torch.equal(model.norm.weight, torch.full((16,), 1 + 2.0**-9))


def test_a_tied_head_stored_or_not(tmp_path: Path) -> None:
    model, stored = tensors({**LLAMA, "tie_word_embeddings": True})
    assert "lm_head.weight" not in stored
    embedding = stored["model.embed_tokens.weight"]
    tied = hf.load(put(tmp_path / "a", stored, tie_word_embeddings=True), "cpu")
    assert tied.head.weight is tied.embedding.weight
    both = {**stored, "lm_head.weight": embedding}
    again = hf.load(put(tmp_path / "b", both, tie_word_embeddings=True), "cpu")
    head_alone = {**stored, "lm_head.weight": embedding}
    del head_alone["model.embed_tokens.weight"]
    alone = hf.load(put(tmp_path / "c", head_alone, tie_word_embeddings=True), "cpu")
    for one in (tied, again, alone):
        assert torch.equal(logits(one), logits(model))
        assert one.config.tied_head


def test_a_head_that_is_not_what_it_is_said_to_be_tied_to_is_not_tied(tmp_path: Path) -> None:
    model, stored = tensors(LLAMA)
    loaded = hf.load(put(tmp_path, stored, tie_word_embeddings=True), "cpu")
    assert not loaded.config.tied_head
    assert torch.equal(logits(loaded), logits(model))


def test_a_model_stored_without_its_head_or_with_old_buffers(tmp_path: Path) -> None:
    model, stored = tensors({**LLAMA, "tie_word_embeddings": True})
    bare = {name.removeprefix("model."): x for name, x in stored.items()}
    bare["layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    loaded = hf.load(put(tmp_path, bare, tie_word_embeddings=True), "cpu")
    assert torch.equal(logits(loaded), logits(model))


@pytest.mark.parametrize("prefix", ["model.language_model.", "language_model.model."])
def test_the_text_of_gemma_3_is_read_without_its_eyes(prefix: str, tmp_path: Path) -> None:
    model, stored = tensors(GEMMA3)
    stored = {name.replace("model.", prefix, 1): x for name, x in stored.items()}
    stored |= {"model.vision_tower.patch.weight": torch.ones(3)}
    stored |= {"multi_modal_projector.weight": torch.ones(3)}
    write_config(tmp_path, {"model_type": "gemma3", "text_config": GEMMA3})
    save_file(stored, tmp_path / "model.safetensors")
    assert torch.equal(logits(hf.load(tmp_path, "cpu")), logits(model))


def test_nothing_of_a_folder_is_executed(tmp_path: Path) -> None:
    model = write_folder(tmp_path, {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}})
    (tmp_path / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert torch.equal(logits(hf.load(tmp_path, "cpu")), logits(model))
    assert not (tmp_path / "ran").exists()


@pytest.mark.gpu
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "gpt_neox", "cohere2", "glm4"])
def test_on_a_gpu_a_model_has_the_type_of_its_file(model_type: str, tmp_path: Path) -> None:
    raw = {**LLAMA, "model_type": model_type, "num_key_value_heads": 2, "head_dim": 8}
    _, stored = tensors(raw)
    put(tmp_path, {name: x.bfloat16() for name, x in stored.items()}, **raw)
    on_gpu, single = hf.load(tmp_path, "cuda"), hf.load(tmp_path, "cuda", dtype=torch.float32)
    assert on_gpu.embedding.weight.dtype == torch.bfloat16
    with torch.no_grad():
        expected = hf.load(tmp_path, "cpu")(TOKENS)
        torch.testing.assert_close(single(TOKENS.cuda()).cpu(), expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            on_gpu(TOKENS.cuda()).cpu().float(), expected, rtol=0.1, atol=0.1
        )


# What is refused


def refused(folder: Path, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        hf.load(folder, "cpu", where="checkpoint=HERE")
    text = str(error.value)
    assert text.startswith("checkpoint=HERE: ")
    assert len(text.splitlines()) == 1


def test_tensors_that_are_missing_unknown_or_of_another_shape(tmp_path: Path) -> None:
    _, stored = tensors(LLAMA)
    name = "model.layers.1.mlp.gate_proj.weight"
    refused(put(tmp_path, {k: v for k, v in stored.items() if k != name}), f"lack {name}, which")
    refused(put(tmp_path, {**stored, "model.extra.bias": torch.ones(2)}), "have model.extra.bias")
    refused(put(tmp_path, {**stored, name: torch.ones(24, 15)}), r"\[24, 15\], where .* \[24, 16\]")
    refused(put(tmp_path, {**stored, name: stored[name].to(torch.int8)}), "is of type I8")
    refused(put(tmp_path, {}), "its files lack lm_head.weight, .* and 18 more")
    refused(put(tmp_path, stored, num_hidden_layers=3), "lack model.layers.2.input_layernorm")
    refused(put(tmp_path, stored, num_hidden_layers=1), "have model.layers.1.input_layernorm")
    refused(put(tmp_path, stored, num_hidden_layers=999), "lack model.layers.10.")
    refused(put(tmp_path, stored, vocab_size=2**24), r"\[40, 16\], where .* \[16777216, 16\]")
    refused(put(tmp_path, stored, attention_bias=True), "lack model.layers.0.self_attn.k_proj.bias")


def test_files_that_are_damaged(tmp_path: Path) -> None:
    write_folder(tmp_path)
    file = tmp_path / "model.safetensors"
    good = file.read_bytes()
    huge = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})
    wrong = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 4]}})
    bad = {
        "cut": good[:-10],
        "cut in the header": good[:50],
        "empty": b"",
        "no length": good[:5],
        "huge header": struct.pack("<Q", 2**62) + good[8:],
        "garbage": b"\xff" * 1000,
        "longer": good + b"\0",
        "huge tensor": struct.pack("<Q", len(huge)) + huge.encode(),
        "wrong offsets": struct.pack("<Q", len(wrong)) + wrong.encode() + b"\0" * 4,
    }
    for content in bad.values():
        file.write_bytes(content)
        refused(tmp_path, "model.safetensors is damaged, cut short or unreadable")


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"lm_head.weight": "model-9.safetensors"}, "names model-9.safetensors, .* not there"),
        ({"lm_head.weight": "../model.safetensors"}, "must be a safetensors file beside it"),
        ({"lm_head.weight": "/etc/passwd"}, "must be a safetensors file beside it"),
        ({"lm_head.weight": "..\\\\model.safetensors"}, "must be a safetensors file beside it"),
        ({"lm_head.weight": "pytorch_model.bin"}, "must be a safetensors file beside it"),
        ({"lm_head.weight": 3}, "must be a safetensors file beside it"),
        ({"lm_head.weight": ".."}, "must be a safetensors file beside it"),
        ({"lm_head.weight": "embedding.safetensors"}, "has lm_head.weight in .*, which lacks it"),
        ({}, "has no weight_map"),
        ([], "has no weight_map"),
    ],
)
def test_an_index_that_leads_astray(weight_map: Any, words: str, tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", LLAMA)
    for place in (tmp_path / "model.safetensors", folder / "embedding.safetensors"):
        save_file({"model.embed_tokens.weight": torch.ones(40, 16)}, place)
    write_index(folder, weight_map)
    refused(folder, words)


def test_pickles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    write_config(tmp_path, LLAMA)
    refused(tmp_path, "has neither model.safetensors nor model.safetensors.index.json")
    torch.save({}, tmp_path / "pytorch_model.bin")
    refused(tmp_path, r"pickles, which are never read; write model.safetensors .*save_pretrained")


# Memory

MEASURE = """
import resource, sys, torch, hf
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = hf.load(sys.argv[1], "cpu")
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024, sum(p.numel() * 4 for p in model.parameters()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_is_no_second_copy_in_memory(dtype: torch.dtype, tmp_path: Path) -> None:
    wide = {**LLAMA, "hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 12}
    _, stored = tensors({**wide, "num_attention_heads": 8, "num_key_value_heads": 8})
    stored = {name: x.to(dtype) for name, x in stored.items()}
    put(tmp_path, stored, **{**wide, "num_attention_heads": 8, "num_key_value_heads": 8})
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    grown, size = map(int, ran.stdout.split())
    assert size > 4e8
    assert grown < 1.25 * size, f"{grown / size:.2f} of the model"
