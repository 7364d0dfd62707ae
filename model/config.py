"""What a Transformer is built from: one validated dataclass, whose fields are the config keys.

A config that breaks a rule raises a ValueError with a line for every broken rule: the key, its
value, the rule, and a value that works.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from common.rules import (
    BOOLEAN,
    above,
    broken,
    even,
    integer,
    known,
    misnamed,
    number,
    optional,
)
from kernels import BACKENDS
from model.frequencies import rope_frequencies, scaling_problems
from model.layers import Layer, layer_problems, layers
from model.positions import POSITIONS

MLPS = ("swiglu", "relu2", "gelu")

_WIDTH = integer(1, 2**20)
_LENGTH = integer(1, 2**40)
_PASSAGES = integer(2, 4096)
_RANGE = integer(2, 2**24)  # a number is drawn for each at every step
_ROTARY_DIM = even(2, 512)  # what the kernels rotate


@dataclass(frozen=True)
class ScalingConfig:
    """How the rotary frequencies are scaled: the arguments of `rope_frequencies`.

    `options` are those of the method, named as Hugging Face names them; None is the default.
    """

    method: str = "none"
    factor: float | None = None
    train_length: int | None = None
    options: dict[str, object] = field(default_factory=dict)

    def arguments(self) -> dict[str, object]:
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
    mlp_hidden: int | None = (
        None  # None: 4 d_model, or 8/3 d_model for the three matrices of swiglu
    )
    qk_norm: bool = False
    tied_head: bool = True
    dropout: float = 0.0
    window: int | None = None  # tokens that a query sees, itself included; None: all so far
    pattern: Sequence[str] | None = None  # `model.layers.KINDS`, repeated; None: all layers alike
    far_heads: int | None = None  # of a mixed layer: heads that see all, without positions
    # In training, passages that heads without window and positions read as one text
    crossbatch: int | None = None
    ssmax: bool = False  # scores times s ln(n), s learned, n the keys; in layers without a window
    random_positions: int | None = None  # in training, sorted random ones below it; None: 0, 1, ...
    # Group `rope`
    backend: str = "auto"
    theta: float = 10000.0
    interleaved: bool = True
    fraction: float = 1.0  # the share of head_dim that is rotated
    fused_projection: bool = False  # the projection's own GEMM rotates, where a kernel can
    # Key `position` and group `scaling`
    position: str = "rope"
    train_length: int | None = None  # data.seq_len: how many positions `learned` has
    scaling: ScalingConfig = field(default_factory=ScalingConfig)

    def __post_init__(self) -> None:
        problems = self.problems()
        if problems:
            raise ValueError("\n".join(problems))

    @classmethod
    def from_config(cls, config: Mapping[str, object], vocab_size: int) -> "TransformerConfig":
        """Build it from a composed config's plain dict: `model`, `rope`, `scaling`, `position`.

        Keys left out take their defaults; a key that does not exist is a ValueError.
        """
        problems: list[str] = []
        values = known(config, "model", _MODEL_KEYS, problems)
        values |= known(config, "rope", _ROPE_KEYS, problems)
        values["scaling"] = ScalingConfig(**known(config, "scaling", _SCALING_KEYS, problems))
        if "position" in config:
            values["position"] = config["position"]
        data = config.get("data")
        if isinstance(data, Mapping) and _LENGTH.holds(data.get("seq_len")):  # else data says so
            values["train_length"] = data["seq_len"]
        try:
            built = cls(vocab_size=vocab_size, **values)
        except ValueError as error:
            problems += str(error).splitlines()
        if problems:
            raise ValueError("\n".join(problems))
        return built

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
    def layers(self) -> list[Layer]:
        """Every layer's window and position."""
        return layers(self.n_layers, self.position, self.window, self.pattern, self.far_heads)

    @property
    def max_length(self) -> int | None:
        """The longest input that the model can read; None: any."""
        return (self.random_positions or self.train_length) if self.position == "learned" else None

    @property
    def mlp_width(self) -> int:
        """Hidden width of the MLP."""
        if self.mlp_hidden is not None:
            return self.mlp_hidden
        # SwiGLU has three matrices where the others have two: 2/3 of the width costs the same.
        return -(-self.d_model // 3) * 8 if self.mlp == "swiglu" else 4 * self.d_model

    # Its rules

    def problems(self) -> list[str]:
        """Every rule that is broken, a line each; empty when all is well."""
        problems = self._value_problems()
        malformed = {line.partition("=")[0] for line in problems}
        shape = [key for key in _SHAPE_KEYS if key in malformed]
        problems += [] if shape else self._shape_problems()
        problems += [] if malformed else layer_problems(self)
        return problems + self._scaling_problems(rotary_dim_known=not problems)

    def _value_problems(self) -> list[str]:
        """Rules on one value each."""
        checks = (
            broken("vocab_size", self.vocab_size, integer(1, 2**24), 256),
            broken("model.n_layers", self.n_layers, integer(1, 10_000), 6),
            broken("model.d_model", self.d_model, _WIDTH, 384),
            broken("model.n_heads", self.n_heads, _WIDTH, 6),
            broken("model.n_kv_heads", self.n_kv_heads, optional(_WIDTH), "null"),
            broken("model.head_dim", self.head_dim, optional(even(2, 2**20)), 64),
            misnamed("model.mlp", self.mlp, MLPS, "swiglu"),
            broken("model.mlp_hidden", self.mlp_hidden, optional(_WIDTH), "null"),
            broken("model.qk_norm", self.qk_norm, BOOLEAN, "true"),
            broken("model.tied_head", self.tied_head, BOOLEAN, "true"),
            broken("model.dropout", self.dropout, number(0, 0.999), 0.1),
            broken("model.window", self.window, optional(_LENGTH), 64),
            broken("model.far_heads", self.far_heads, optional(_WIDTH), 1),
            broken("model.crossbatch", self.crossbatch, optional(_PASSAGES), 8),
            broken("model.ssmax", self.ssmax, BOOLEAN, "true"),
            broken("model.random_positions", self.random_positions, optional(_RANGE), 4096),
            misnamed("rope.backend", self.backend, ("auto", *BACKENDS), "auto"),
            broken("rope.theta", self.theta, above(1), 10000.0),
            broken("rope.interleaved", self.interleaved, BOOLEAN, "true"),
            broken("rope.fraction", self.fraction, number(0, 1), 0.5),
            broken("rope.fused_projection", self.fused_projection, BOOLEAN, "true"),
            misnamed("position", self.position, POSITIONS, "rope"),
            broken("data.seq_len", self.train_length, optional(_LENGTH), 256),
        )
        return [line for lines in checks for line in lines]

    def _shape_problems(self) -> list[str]:
        """Rules that tie widths to each other; each of them is well-formed by itself."""
        problems = []
        divides = self.head_dim is not None or self.d_model % (2 * self.n_heads) == 0
        if not divides:
            problems.append(
                f"model.n_heads={self.n_heads}: must divide model.d_model={self.d_model} into an "
                f"even head_dim; {self._valid_heads()}"
            )
        elif self.position == "rope" and not _rotates(self.fraction, self.head_width):
            valid = [dim / self.head_width for dim in range(2, min(self.head_width, 512) + 1, 2)]
            problems.append(
                f"rope.fraction={self.fraction}: must make fraction x head_dim={self.head_width} "
                f"{_ROTARY_DIM.text}; valid: {_listed(valid, self.fraction)}"
            )
        if self.n_heads % self.kv_heads:
            valid = [n for n in range(1, self.n_heads + 1) if self.n_heads % n == 0]
            problems.append(
                f"model.n_kv_heads={self.n_kv_heads}: must divide model.n_heads={self.n_heads}; "
                f"valid: {_listed(valid, self.kv_heads)}"
            )
        return problems

    def _valid_heads(self) -> str:
        """The n_heads that work with every other setting, or a d_model that does with n_heads."""
        fraction = self.fraction if self.position == "rope" else 1.0
        divisors = [n for n in range(1, self.d_model + 1) if self.d_model % n == 0]
        valid = [n for n in divisors if _rotates(fraction, self.d_model // n)]
        shared = [n for n in valid if n % (self.n_kv_heads or 1) == 0]
        if valid:
            return f"valid: {_listed(shared or valid, self.n_heads)}"
        width = next((w for w in range(2, 1024, 2) if _rotates(fraction, w)), 64)
        multiple = self.n_heads * width
        return f"none works; try model.d_model={-(-self.d_model // multiple) * multiple}"

    def _scaling_problems(self, *, rotary_dim_known: bool) -> list[str]:
        scaling = self.scaling
        if not isinstance(scaling.options, Mapping):
            return [f"scaling.options={scaling.options!r}: must be a dictionary; try {{}}"]
        doubled = sorted({"method", "factor", "train_length"} & set(scaling.options))
        if doubled:
            return [
                f"scaling.options.{key}: belongs one level up; set scaling.{key}" for key in doubled
            ]
        settings = scaling.arguments()
        lines = scaling_problems(settings.pop("method"), settings)
        if not lines and rotary_dim_known and self.position == "rope":
            lines = _errors_of_frequencies(self)
        if not lines and self.position != "rope" and scaling.method != "none":
            lines = [f"method={scaling.method}: position={self.position} rotates nothing; use none"]
        return [_with_group(line) for line in lines]


_ROPE_KEYS = ("backend", "theta", "interleaved", "fraction", "fused_projection")
_SCALING_KEYS = tuple(f.name for f in fields(ScalingConfig))
_MODEL_KEYS = tuple(
    f.name
    for f in fields(TransformerConfig)
    if f.name not in (*_ROPE_KEYS, "vocab_size", "position", "train_length", "scaling")
)
_SHAPE_KEYS = (
    "model.d_model",
    "model.n_heads",
    "model.n_kv_heads",
    "model.head_dim",
    "rope.fraction",
)


def _rotates(fraction: float, head_dim: int) -> bool:
    """Whether the fraction of head_dim, to six digits, is a number of elements to rotate."""
    exact = fraction * head_dim
    whole = abs(exact - round(exact)) < 1e-3
    return head_dim % 2 == 0 and whole and _ROTARY_DIM.holds(round(exact))


def _listed(valid: list[int] | list[float], value: float, most: int = 12) -> str:
    """The valid values nearest to the one given, in order."""
    near = sorted(sorted(valid, key=lambda v: abs(v - value))[:most])
    return ", ".join(str(v) if isinstance(v, int) else f"{v:g}" for v in near)


def _errors_of_frequencies(config: TransformerConfig) -> list[str]:
    """What only shows once the width is known: lists of the wrong length."""
    try:
        rope_frequencies(config.rotary_dim, config.theta, **config.scaling.arguments())
    except ValueError as error:
        return str(error).splitlines()
    return []


def _with_group(line: str) -> str:
    """Put the config group before the key of a line that `rope_frequencies` wrote."""
    key = line.partition("=")[0]
    full = ("scaling." if key in _SCALING_KEYS else "scaling.options.") + key
    return full + line.removeprefix(key).replace(f"try {key}=", f"try {full}=")
