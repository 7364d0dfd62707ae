"""The text that evaluate.py scores, and what of the user's wishes it does not allow."""

from typing import Any

from cli.overrides import Overrides
from cli.subjects import Subjects
from data import Text, Tokenizer, encode_whole, load_corpus
from data.progress import WorkProgress
from evaluation import Settings, check_passages_fit, check_text_is_enough


def held_out_documents(tokenizer: Tokenizer, source: dict[str, Any]) -> list[Any]:
    """The texts of a split of a corpus (`corpus`, `path`, `split`) in the model's tokens.

    `split` all: every document, whole.
    """
    with WorkProgress() as on_progress:
        corpus = load_corpus(source["corpus"], path=source["path"], on_progress=on_progress)
    texts: list[Text] = getattr(
        corpus, "documents" if source["split"] == "all" else source["split"]
    )
    if not texts:
        raise ValueError(
            f"split=report: data.corpus={source['corpus']} keeps no text for it, data=books does; "
            "use split=validation"
        )
    return [encode_whole(tokenizer, text) for text in texts]


def check_typed(
    overrides: Overrides, settings: Settings, chosen: Subjects, documents: list[Any]
) -> None:
    """ValueError where no model, or not the text, has what was asked for by name."""
    check_text_is_enough(settings, documents)
    if overrides.of("methods"):
        chosen.check_possible([method.name for method in settings.methods])
    if overrides.of("passages"):
        check_passages_fit(settings, documents)
