"""What a Transformer is built from: one validated dataclass, whose fields are the config keys.

A config that breaks a rule raises a ValueError with a line for every broken rule. What a value must
be stands here, above the fields; what ties several keys to each other stands in `model/rules.py`.
Nothing here needs torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from common.rules import (
    BOOLEAN,
    above,
    at_least,
    broken_keys,
    even,
    group_of,
    integer,
    list_of,
    number,
    of,
    one_of,
    optional,
    problems,
    refuse,
    shown,
)
from model.layers import KINDS, POSITIONS, Layer, layers
from model.numbers import as_python
from model.rules import removed, tied_problems

BACKENDS = ("auto", "triton", "pytorch")  # auto and `kernels.BACKENDS`, which imports torch
MLPS = ("swiglu", "geglu", "relu2", "gelu", "gelu-tanh")
GATED = ("swiglu", "geglu")  # three matrices, of which one is the gate
NORMS = ("rms", "layer")
# Where the norms of a block stand (`model.block.Block`)
BLOCKS = ("pre", "post", "sandwich", "parallel", "parallel-shared")
QK_NORMS = ("width", "heads")  # beside true and false

WIDTH = integer(1, 2**20, 128)
RULES = {
    "vocab_size": integer(1, 2**24, 256),
    "model.n_layers": integer(1, 10_000, 6),
    "model.d_model": WIDTH,
    "model.n_heads": integer(1, 2**20, 4),
    "model.n_kv_heads": optional(integer(1, 2**20, 1)),
    "model.head_dim": optional(even(2, 2**20, 64)),
    "model.mlp": one_of(MLPS, "swiglu"),
    "model.mlp_hidden": optional(WIDTH),
    "model.block": one_of(BLOCKS, "pre"),
    "model.norm": one_of(NORMS, "rms"),
    "model.norm_eps": number(0, 1, 1e-6),
    "model.norm_bias": BOOLEAN,
    "model.qkv_bias": BOOLEAN,
    "model.out_bias": BOOLEAN,
    "model.mlp_bias": BOOLEAN,
    "model.head_bias": BOOLEAN,
    "model.qk_norm": of(
        "true, false, width or heads", lambda v: isinstance(v, bool) or v in QK_NORMS, "true"
    ),
    "model.attention_scale": optional(above(0, 0.125)),
    "model.attention_softcap": optional(above(0, 50.0)),
    "model.embedding_scale": optional(above(0, 16.0)),
    "model.logit_scale": optional(above(0, 0.0625)),
    "model.logit_softcap": optional(above(0, 30.0)),
    "model.tied_head": BOOLEAN,
    "model.dropout": number(0, 0.999, 0.1),
    "model.window": optional(integer(1, 2**40, 64)),
    "model.pattern": optional(list_of(one_of(KINDS, "full"), repeats=True)),
    "model.crossbatch": optional(integer(2, 4096, 8)),
    "model.ssmax": BOOLEAN,
    "model.random_positions": optional(integer(2, 2**24, 4096)),  # that many numbers at every step
    "rope.backend": one_of(BACKENDS, "auto"),
    "rope.theta": above(1, 10000.0),
    "rope.local_theta": optional(above(1, 10000.0)),
    "rope.interleaved": BOOLEAN,
    "rope.fraction": number(0, 1, 0.5),
    "rope.fused_projection": BOOLEAN,
    "position": one_of(POSITIONS, "rope"),
    "data.seq_len": optional(at_least(1, 256)),
}


@dataclass(frozen=True)
class ScalingConfig:
    """How the rotary frequencies are scaled: the arguments of `rope_frequencies`.

    `options` are those of the method, named as Hugging Face names them; None is the default.
    """

    method: str = "none"
    factor: float | None = None
    train_length: int | None = None
    options: dict[str, object] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `rope_frequencies` and of `Transformer.set_scaling`."""
        lengths = {"train_length": self.train_length, "factor": self.factor}
        return {"method": self.method, **lengths, **self.options}


@dataclass(frozen=True)
class TransformerConfig:
    """A decoder-only transformer. Raises ValueError, a line for every broken rule."""

    vocab_size: int = 256
    # Group `model`
    n_layers: int = 2
    d_model: int = 128
    n_heads: int = 4
    n_kv_heads: int | None = None  # None: n_heads; fewer share keys and values (GQA)
    head_dim: int | None = None  # None: d_model / n_heads
    mlp: str = "swiglu"
    mlp_hidden: int | None = None  # None: 4 d_model, or 8/3 d_model where there are three matrices
    block: str = "pre"  # where the norms stand, and whether attention and MLP are parallel
    norm: str = "rms"
    norm_eps: float = 1e-6
    norm_bias: bool = False  # of layer norms
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    qk_norm: bool | str = False  # true: a weight for all heads; heads: for each; width: one norm
    attention_scale: float | None = None  # of q·k; None: 1 / sqrt(head_dim)
    attention_softcap: float | None = None  # scores s become cap tanh(s / cap)
    embedding_scale: float | None = None  # of the token's embedding
    logit_scale: float | None = None
    logit_softcap: float | None = None
    tied_head: bool = True
    dropout: float = 0.0
    window: int | None = None  # tokens that a query sees, itself included; None: all so far
    pattern: Sequence[str] | None = None  # `model.layers.KINDS`, repeated; None: all layers alike
    # In training, passages that heads without window and positions read as one text
    crossbatch: int | None = None
    ssmax: bool = False  # scores times s ln(n), s learned, n the keys; in layers without a window
    random_positions: int | None = None  # in training, sorted random ones below it; None: 0, 1, ...
    # Group `rope`
    backend: str = "auto"
    theta: float = 10000.0
    local_theta: float | None = None  # of layers with a window, which no scaling changes
    interleaved: bool = True
    fraction: float = 1.0  # the share of head_dim that is rotated
    fused_projection: bool = False  # the projection's own GEMM rotates, where a kernel can
    # Key `position` and group `scaling`
    position: str = "rope"
    train_length: int | None = None  # data.seq_len: how many positions `learned` has
    scaling: ScalingConfig = field(default_factory=ScalingConfig)

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self)):  # frozen, for everyone else
            object.__setattr__(self, name, as_python(getattr(self, name)))
        if not isinstance(self.scaling, ScalingConfig):
            raise ValueError(
                f"scaling={shown(self.scaling)}: must be a ScalingConfig; leave it out"
            )
        values = {key: getattr(self, _FIELDS.get(key, key.split(".")[-1])) for key in RULES}
        wrong = problems(values, RULES)
        refuse(wrong + tied_problems(self, broken_keys(values, RULES)))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], vocab_size: int) -> "TransformerConfig":
        """Build it from a composed config's plain dict: `model`, `rope`, `scaling`, `position`.

        Keys left out take their defaults; a key that does not exist is a ValueError.
        """
        config = removed(config)
        model, lines = group_of(config, "model", _keys("model"))
        rope, more = group_of(config, "rope", _keys("rope"))
        scaling, most = group_of(config, "scaling", [f.name for f in fields(ScalingConfig)])
        values = {**model, **rope, "scaling": ScalingConfig(**scaling)}
        if "position" in config:
            values["position"] = config["position"]
        seq_len = config["data"].get("seq_len") if isinstance(config.get("data"), Mapping) else None
        if RULES["data.seq_len"].holds(seq_len):  # else data says so
            values["train_length"] = seq_len
        lines = [*lines, *more, *most]
        try:
            built = cls(vocab_size=vocab_size, **values)
        except ValueError as error:
            lines += str(error).splitlines()
        refuse(lines)
        return built

    def groups(self) -> dict[str, Any]:
        """What `from_config` builds this of, but for the vocabulary: every key, plain data."""
        made: dict[str, Any] = {"position": self.position, "scaling": asdict(self.scaling)}
        for key in RULES:
            group, _, name = key.partition(".")
            if name:
                made.setdefault(group, {})[name] = getattr(self, _FIELDS.get(key, name))
        return made

    # The widths that None leaves to a rule

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_width(self) -> int:
        """Elements of one head."""
        return self.d_model // self.n_heads if self.head_dim is None else self.head_dim

    @property
    def rotary_dim(self) -> int:
        """Elements of one head that are rotated, the first ones."""
        return round(self.fraction * self.head_width)

    @property
    def mlp_width(self) -> int:
        """Hidden width of the MLP."""
        if self.mlp_hidden is not None:
            return self.mlp_hidden
        # A gated MLP has three matrices where the others have two: 2/3 of the width costs the same.
        return -(-self.d_model // 3) * 8 if self.mlp in GATED else 4 * self.d_model

    @property
    def layers(self) -> list[Layer]:
        """Every layer's window and position."""
        return layers(self.n_layers, self.position, self.window, self.pattern)

    def layer_theta(self, layer: Layer) -> float:
        """The base of a layer's frequencies."""
        if layer.window is None or self.local_theta is None:
            return self.theta
        return self.local_theta

    def scales(self, layer: Layer) -> bool:
        """Whether a scaling changes a layer's frequencies."""
        return layer.position == "rope" and (layer.window is None or self.local_theta is None)

    @property
    def max_length(self) -> int | None:
        """The longest input that the model can read; None: any."""
        return (self.random_positions or self.train_length) if self.position == "learned" else None


_FIELDS = {"data.seq_len": "train_length"}  # the one field that is not called like its key


def _keys(group: str) -> list[str]:
    return [key.removeprefix(f"{group}.") for key in RULES if key.startswith(f"{group}.")]
