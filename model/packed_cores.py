"""Attention inside the documents of a packed row, and where these begin and end.

Several documents stand one after the other in a row of T tokens, without padding. `cu_seqlens` are
the places where each begins, and the end of the last: (0, 3, 7) are documents of 3 and 4 tokens.
An empty document is none, so that their number can be filled up to a fixed one.

Shapes: T tokens of the row, N documents, H heads of queries, Hk heads of keys and values,
D head_dim.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from model.by_length import ByLength
from model.cores import Call, Core, PlainCore
from model.window_cores import AlibiCore, Rules, WindowCore, alibi_of, attend_in_blocks


def check_cu_seqlens(cu_seqlens: Tensor, max_seqlen: int | None, x: Tensor) -> int:
    """ValueError where `cu_seqlens` cannot be that of the packed row x (1, T, …).

    Returns how many tokens a document has at most: `max_seqlen`, or those of the row.
    Values are read on a CPU alone: a GPU would have to be waited for.
    """
    if not isinstance(cu_seqlens, Tensor):
        raise ValueError(f"cu_seqlens: must be a tensor or None; got {type(cu_seqlens).__name__}")
    if cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"cu_seqlens: must be int32 or int64; got {cu_seqlens.dtype}")
    if cu_seqlens.ndim != 1 or len(cu_seqlens) < 2:
        shape = tuple(cu_seqlens.shape)
        raise ValueError(f"cu_seqlens: must be (documents + 1,), two or more; got {shape}")
    if cu_seqlens.device != x.device:
        raise ValueError(f"cu_seqlens: must be on {x.device}; got {cu_seqlens.device}")
    if x.shape[0] != 1:
        raise ValueError(f"cu_seqlens: are for one packed row; got a batch of {x.shape[0]}")
    if cu_seqlens.device.type == "cpu" and not torch.compiler.is_compiling():
        ends = cu_seqlens.tolist()
        if ends[0] != 0 or ends[-1] != x.shape[1] or ends != sorted(ends):
            raise ValueError(
                f"cu_seqlens: must rise from 0 to the {x.shape[1]} tokens of the row; got {ends}"
            )
        longest = int(cu_seqlens.diff().max())
        if max_seqlen is not None and longest > max_seqlen:
            raise ValueError(f"max_seqlen={max_seqlen}: a document has {longest} tokens")
    return x.shape[1] if max_seqlen is None else max_seqlen


def document_of(cu_seqlens: Tensor, n_tokens: int) -> Tensor:
    """The number of every token's document: int64 (T,)."""
    tokens = torch.arange(n_tokens, device=cu_seqlens.device)
    return torch.searchsorted(cu_seqlens[1:].long(), tokens, right=True)


def positions_in(cu_seqlens: Tensor, n_tokens: int) -> Tensor:
    """The place of every token in its document, from 0: int64 (T,)."""
    starts = cu_seqlens.long()[document_of(cu_seqlens, n_tokens)]
    return torch.arange(n_tokens, device=cu_seqlens.device) - starts


def keys_seen(cu_seqlens: Tensor, n_tokens: int, causal: bool) -> Tensor:
    """How many keys every query sees: those of its document, causal: up to it. int64 (T,)."""
    if causal:
        return positions_in(cu_seqlens, n_tokens) + 1
    return cu_seqlens.long().diff()[document_of(cu_seqlens, n_tokens)]


def length_read(cu_seqlens: Tensor, max_seqlen: int, by_length: ByLength | None) -> int:
    """The number of tokens that a layer's frequencies are to be those of.

    ValueError where they would differ between documents. A compiled graph cannot tell: there,
    documents must be no longer than the scaling's train_length.
    """
    most = max_seqlen if by_length is None else by_length.train_length
    if max_seqlen <= most or torch.compiler.is_compiling():
        return most
    if (longest := int(cu_seqlens.diff().max())) > most:
        raise ValueError(
            f"cu_seqlens: a document of {longest} tokens, but frequencies that follow the length "
            f"change past train_length={most}; read longer ones by themselves"
        )
    return most


def attend_in_documents(
    core: Core,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    dropout: float,
) -> Tensor:
    """What `core` reads of every document by itself: (1, T, H, D).

    q (1, T, H, D), k and v (1, T, Hk, D). By flash attention where that can; else document by
    document; and in a compiled graph, which cannot know how many there are, by a mask, in time that
    grows with the square of T.
    """
    if can_flash(core, q, dropout):
        return _flash(core, q, k, v, cu_seqlens, max_seqlen)
    if torch.compiler.is_compiling():
        return _masked(core, q, k, v, cu_seqlens, dropout)
    call, lengths = Call(dropout=dropout), cu_seqlens.diff().tolist()
    # Not slices: the backward of each would fill a whole row with zeros.
    documents = zip(*(x.split(lengths, dim=1) for x in (q, k, v)), strict=True)
    parts = [core(q, k, v, call) for q, k, v in documents if q.shape[1]]
    return torch.cat(parts, dim=1)


def _masked(
    core: Core, q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, dropout: float
) -> Tensor:
    """All documents at once: of the ordinary cores in blocks, of others by a mask (T, T)."""
    documents = document_of(cu_seqlens, q.shape[1])
    if not isinstance(core, (PlainCore, WindowCore, AlibiCore)):
        return core(q, k, v, Call(documents[:, None] == documents, dropout=dropout))
    window = None if isinstance(core, PlainCore) else core.window
    bias = alibi_of(q, k, Call()) if isinstance(core, AlibiCore) else None
    rules = Rules(core.causal, 0, window, None, documents)
    return attend_in_blocks(q, k, v, rules, bias, dropout)


# Flash attention of PyTorch's, on a GPU


def _found() -> Callable[..., Any] | None:
    """PyTorch's `varlen_attn`, where it is there and knows windows (from 2.11 or 2.12 on)."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "window_size" in _parameters(varlen_attn) else None


def _parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


VARLEN = _found()
SHARES = VARLEN is not None and "enable_gqa" in _parameters(VARLEN)  # keys among heads of queries


def can_flash(core: Core, q: Tensor, dropout: float) -> bool:
    """Whether flash attention gives what `core` does: 16 bits on a GPU, nothing on the scores."""
    return (
        VARLEN is not None
        and q.is_cuda
        and isinstance(core, (PlainCore, WindowCore))
        and not dropout
        and q.dtype in (torch.float16, torch.bfloat16)
        and q.shape[-1] % 8 == 0
        and q.shape[-1] <= 256
        and torch.cuda.get_device_properties(q.device).major >= 8
    )


def _flash(
    core: Core, q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_seqlen: int
) -> Tensor:
    """Its grid of blocks is as large as if all documents were as long as the longest may be."""
    assert VARLEN is not None and isinstance(core, (PlainCore, WindowCore))
    ends = cu_seqlens.to(torch.int32).contiguous()
    k, v = k.to(q.dtype), v.to(q.dtype)
    reach = core.window - 1 if isinstance(core, WindowCore) else -1  # -1: any
    options: dict[str, object] = {"window_size": (reach, 0 if core.causal else reach)}
    if SHARES:
        options["enable_gqa"] = q.shape[2] != k.shape[2]
    elif q.shape[2] != k.shape[2]:
        k, v = (x.repeat_interleave(q.shape[2] // k.shape[2], dim=2) for x in (k, v))
    return VARLEN(q[0], k[0], v[0], ends, ends, max_seqlen, max_seqlen, **options)[None]
