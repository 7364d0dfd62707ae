"""The text that evaluate.py scores, and what of the user's wishes it does not allow."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cli.overrides import Overrides
from cli.subjects import Subjects
from data import SubwordTokenizer, Text, Tokenizer, encode_whole, load_corpus
from data.documents import TokenDocuments, by_document
from data.origin import Origin
from data.progress import WorkProgress
from evaluation import Settings, check_passages_fit, check_text_is_enough


def held_out_documents(
    tokenizer: Tokenizer, settings: Mapping[str, Any], split: str
) -> Sequence[np.ndarray]:
    """The documents of a split of the corpus that is set (the group `data`) in tokens.

    `split` all: every document, whole.
    """
    origin = Origin.of(settings)
    with WorkProgress() as on_progress:
        corpus = load_corpus(**vars(origin), on_progress=on_progress)
    texts: list[Text] = getattr(corpus, "documents" if split == "all" else split)
    if not texts:
        raise ValueError(
            f"split=report: data.corpus={origin.corpus} keeps no text for it, data=books does; "
            "use split=validation"
        )
    if isinstance(tokenizer, SubwordTokenizer) and tokenizer.is_lossy:
        print(
            "bits per byte: of what the model's tokenizer keeps of the text; case, spaces or "
            "characters are lost, so they compare with no other tokenizer's"
        )
    return TokenDocuments.of(
        encode_whole(tokenizer, document) for text in texts for document in by_document(text)
    )


def check_typed(
    overrides: Overrides, settings: Settings, chosen: Subjects, documents: Sequence[np.ndarray]
) -> None:
    """ValueError where no model, or not the text, has what was asked for by name."""
    check_text_is_enough(settings, documents)
    if overrides.of("methods"):
        chosen.check_possible([method.name for method in settings.methods])
    if overrides.of("passages"):
        check_passages_fit(settings, documents)
