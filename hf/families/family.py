"""What a family of models is: the keys of its config.json and the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hf.families.weight import How, Weight, gate_rows, qkv_rows, same
from hf.keys import Keys
from model.config import TransformerConfig

# Buffers that files of earlier days hold beside the weights
BUFFERS = (r"\.rotary_emb\.inv_freq$", r"\.(attn|attention)\.(masked_)?bias$")


@dataclass(frozen=True)
class Layout:
    """What a family calls the modules of our Transformer.

    `outer` and `inner` go by our names, without `.weight` and `.bias`; a module of ours that is
    several of theirs has a tuple. `how` makes ours of theirs, `same` where none is named: for q, k
    and v, and for gate and value, that are stored apart, their rows below each other.
    """

    outer: Mapping[str, str]
    block: str  # what stands before the names of `inner`, with {} for the layer
    inner: Mapping[str, Sequence[str]]  # a name, or several
    how: Mapping[str, Callable[[TransformerConfig], How]] = field(default_factory=dict)

    def weights(self, config: TransformerConfig) -> list[Weight]:
        """Every parameter of a Transformer of this config, in the order of its modules."""
        outer, inner = outer_modules(config), block_modules(config)
        found = []
        for module, kinds in outer.items():
            found += self._of(module, module, (self.outer[module],), kinds, config)
        for i in range(config.n_layers):
            for module, kinds in inner.items():
                names = self.inner[module]
                names = [names] if isinstance(names, str) else names
                theirs = tuple(self.block.format(i) + name for name in names)
                found += self._of(f"blocks.{i}.{module}", module, theirs, kinds, config)
        return found

    def _of(
        self,
        ours: str,
        module: str,
        theirs: tuple[str, ...],
        kinds: Sequence[str],
        config: TransformerConfig,
    ) -> list[Weight]:
        apart = {"attention.qkv": qkv_rows, "mlp.up": gate_rows}.get(module, same)
        how = self.how.get(module, apart if len(theirs) > 1 else same)(config)
        return [
            Weight(f"{ours}.{kind}", tuple(f"{name}.{kind}" for name in theirs), how)
            for kind in kinds
        ]


@dataclass(frozen=True)
class Family:
    """A `model_type` of Hugging Face that our Transformer can be.

    `defaults`: what a key means where it is left out. `fields` reads the keys. `harmless`: keys
    of this family alone that change nothing. `renamed`: patterns of names in files, and what they
    are called in `layout`. `ignored`: patterns of tensors that do not belong to the network.
    """

    model_type: str
    architecture: str
    fields: Callable[[Keys], dict[str, Any]]
    layout: Layout
    defaults: Mapping[str, Any]
    base: str = "model."  # what stands before all names but the head's
    harmless: frozenset[str] = frozenset()
    renamed: Sequence[tuple[str, str]] = ()
    ignored: Sequence[str] = ()

    def read_config(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of `TransformerConfig`; ValueError by name for what cannot be expressed."""
        keys = Keys(raw, self.defaults)
        keys.only("quantization_config", None, because="weights that are quantized are not read")
        keys.only("is_encoder_decoder", False, because="encoders are not")
        keys.only("add_cross_attention", False, because="cross-attention is not")
        keys.only("pruned_heads", None, {}, because="all layers have the same heads")
        fields = self.fields(keys)
        keys.refuse_unread(self.harmless)
        return fields

    def weights(self, config: TransformerConfig) -> list[Weight]:
        """Every parameter of a Transformer of this config, and the tensors that it is made of."""
        return self.layout.weights(config)

    def called(self, name: str) -> str | None:
        """What `layout` calls a tensor of a file; None for one that is no weight."""
        if any(re.search(pattern, name) for pattern in (*BUFFERS, *self.ignored)):
            return None
        for pattern, replacement in self.renamed:
            name = re.sub(pattern, replacement, name)
        return name


def outer_modules(config: TransformerConfig) -> dict[str, list[str]]:
    """The modules outside the blocks, and whether each has a weight of its own and a bias."""
    modules = {"embedding": _kinds(False)}
    if config.position == "learned":
        modules["position_embedding"] = _kinds(False)
    modules["norm"] = _kinds(config.norm_bias)
    modules["head"] = _kinds(config.head_bias)[config.tied_head :]
    return modules


def block_modules(config: TransformerConfig) -> dict[str, list[str]]:
    """The modules with weights of one block, and whether each has a bias."""
    modules = {"attention_norm": config.norm_bias, "attention.qkv": config.qkv_bias}
    if config.qk_norm:
        modules |= {"attention.q_norm": False, "attention.k_norm": False}
    modules["attention.out"] = config.out_bias
    if config.block == "sandwich":
        modules["attention_post_norm"] = config.norm_bias
    if config.block != "parallel-shared":
        modules["mlp_norm"] = config.norm_bias
    modules |= {"mlp.up": config.mlp_bias, "mlp.down": config.mlp_bias}
    if config.block == "sandwich":
        modules["mlp_post_norm"] = config.norm_bias
    return {module: _kinds(bias) for module, bias in modules.items()}


def _kinds(bias: bool) -> list[str]:
    return ["weight", "bias"] if bias else ["weight"]
