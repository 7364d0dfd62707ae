"""Reading tokens through a KV cache: what a model says of the next one, row by row.

Shapes: B rows, S new tokens, T tokens so far, V vocab_size.
"""

from torch import Tensor

from model.transformer import Transformer

MASKED = 1024  # tokens read at once with a mask, which attention makes of queries times keys


def can_pad(model: Transformer) -> bool:
    """Whether rows of different lengths can be read together, filled up on the left.

    Not under a core that counts tokens itself, and not where the frequencies follow the length.
    """
    return isinstance(model, Transformer) and not any(
        attention.core.rotates or attention.by_length for attention in model.attentions()
    )


def longest(model: Transformer) -> int | None:
    """The most tokens that can be given to a model; None: any number, as where it crops them."""
    return model.config.max_length if isinstance(model, Transformer) else None


class Reader:
    """Reads new tokens after those that it has read before."""

    def __init__(
        self, model: Transformer, mask: Tensor | None, n_rows: int, max_length: int
    ) -> None:
        """`mask`: booleans (B, S) of the first call, False where a token only fills its row up."""
        self.model, self.cache = model, model.new_cache(n_rows, max_length)
        self.mask = None
        if mask is not None:
            self.mask = mask.new_ones(n_rows, max_length)  # (B, max_length)
            self.mask[:, : mask.shape[1]] = mask

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits (B, V) of the token after the last of `tokens` (B, S)."""
        if self.mask is None:
            return self._read(tokens, None)
        for part in tokens.split(MASKED, dim=1):
            logits = self._read(part, self.mask[:, : self.cache.length + part.shape[1]])
        return logits

    def _read(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        # Past a compiled __call__: the cache's length changes at every step.
        return self.model.forward(tokens, cache=self.cache, mask=mask, logits_to_keep=1)[:, -1]
