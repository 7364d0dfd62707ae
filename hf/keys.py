"""The keys of a config.json, read one by one, so that none that matters is left unread.

A family reads the keys that make the network. Those that nobody reads are looked at at the end:
some are known to be harmless, others are refused (`Keys.refuse_unread`).
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from common.rules import Rule, above, integer, list_of, of, one_of, refuse, shown

WHOLE = integer(1, 2**40, 1)
POSITIVE = above(0, 1.0)
FLAG = of("true or false", lambda v: isinstance(v, bool), "false")
FLAGS = list_of(of("0 or 1", lambda v: v in (0, 1), 1), repeats=True)

# Where a key that is not known has one of these in its name, it may well change the network.
TELLING = re.compile(
    "rope|rotary|attn|attention|head|layer|norm|scal|cap|bias|window|act|mlp|expert|moe|embed|"
    "residual|multipl|position|hidden|intermediate|logit|softmax|quant|kv|qk|query|key|parallel|"
    "rank|lora|block|skip|shar|router|clip|ffn|mamba|ssm|conv|sink|causal|decoder|cross"
)
HARMLESS = {  # of those, the ones that change nothing when a model is only read
    *("attn_implementation", "_attn_implementation", "_attn_implementation_autoset"),
    *("attention_dropout", "attn_pdrop", "embd_pdrop", "hidden_dropout", "hidden_dropout_prob"),
    *("is_decoder", "output_attentions", "output_hidden_states"),
}
OFF: tuple[object, ...] = (None, False, 0, "", [], {})  # values of a key that does nothing


class Keys:
    """The keys of a config.json, with what a family has where one is left out.

    Every reader raises a ValueError by name: the key, its value, and what it must be.
    """

    def __init__(self, raw: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        self._values = {**(defaults or {}), **raw}
        self._unread = set(raw)

    def value(self, key: str, default: Any = None) -> Any:
        """What stands there, which may be None; `default` where the key is left out."""
        self._unread.discard(key)
        return self._values.get(key, default)

    def ruled(self, key: str, rule: Rule, default: Any = None) -> Any:
        """A value that `rule` holds for."""
        value = self.value(key, default)
        if not rule.holds(value):
            missing = "" if key in self._values else " (it is left out)"
            raise ValueError(f"{key}={shown(value)}{missing}: must be {rule.text}")
        return value

    def whole(self, key: str) -> int:
        """An integer of at least 1."""
        return self.ruled(key, WHOLE)

    def number(self, key: str) -> float:
        """A number above 0."""
        return float(self.ruled(key, POSITIVE))

    def flag(self, key: str) -> bool:
        """True or false."""
        return self.ruled(key, FLAG)

    def optional_whole(self, key: str) -> int | None:
        """An integer of at least 1, or null."""
        return None if self.value(key) is None else self.whole(key)

    def optional_number(self, key: str) -> float | None:
        """A number above 0, or null."""
        return None if self.value(key) is None else self.number(key)

    def mapping(self, key: str) -> dict[str, Any]:
        """A dictionary; null is an empty one."""
        value = self.value(key)
        if value is None:
            return {}
        return dict(self.ruled(key, of("null or a dictionary", _is_mapping, {})))

    def named(self, key: str, names: Mapping[str, str]) -> str:
        """What this project calls a value, of those that it can express."""
        value = self.value(key)
        if not isinstance(value, str) or value not in names:
            raise ValueError(
                f"{key}={shown(value)}: cannot be expressed here; what can is {', '.join(names)}"
            )
        return names[value]

    def only(self, key: str, *values: object, because: str) -> None:
        """Refuse every value but these; a key that is left out is right."""
        value = self.value(key, values[0])
        if not any(value is one or (value == one and value is not True) for one in values):
            listed = " or ".join(shown(one) for one in values)
            raise ValueError(f"{key}={shown(value)}: {because}; what can be read is {listed}")

    def refuse_unread(self, harmless: Collection[str] = ()) -> None:
        """ValueError, a line for each key that may change the network and that nobody has read.

        Those are the keys whose names speak of a network and whose values are not off. Others,
        such as what a tool notes of itself, are let pass.
        """
        left = sorted(self._unread - HARMLESS - set(harmless))
        refuse(
            [
                f"{key}={shown(self._values[key])}: is not known, and may change what the model "
                "computes; take it out of config.json if it does not"
                for key in left
                if TELLING.search(key.lower()) and self._values[key] not in OFF
            ]
        )


def kinds(names: Collection[str]) -> Rule:
    """A list of these names."""
    return list_of(one_of(names, next(iter(names))), repeats=True)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)
