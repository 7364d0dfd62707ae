"""From what a user typed to a folder: a path, or the name of a model on the Hugging Face Hub."""

import re
from functools import partial
from pathlib import Path

from hf.files import CONFIG, read_json

# owner/name, and a branch, tag or commit
NAME = re.compile(r"^(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?$")
# Weights, descriptions and tokenizers; never code, never pickles.
WANTED = ["*.safetensors", "*.json", "tokenizer.model", "*.txt", "*.jinja"]
# Folders hold the same in other forms, and so does Mistral's consolidated.safetensors.
UNWANTED = ["*/*", "*.bin.index.json", "consolidated*"]


def is_directory(path: str | Path) -> bool:
    """Whether a folder holds a model in Hugging Face's layout: a config.json with a model_type."""
    try:
        return "model_type" in read_json(Path(path) / CONFIG, str(path))
    except ValueError:
        return False


def is_name(text: str) -> bool:
    """Whether a text can be the name of a model on the Hub: owner/name, or owner/name@revision."""
    return NAME.match(text) is not None and not text.startswith((".", "~"))


def find(name: str | Path, where: str | None = None) -> Path:
    """The folder of a model: `name` itself, or the Hub's model of that name, fetched once.

    What was fetched before, or all of it where HF_HUB_OFFLINE is set, comes from Hugging Face's
    cache. ValueError, in two lines at most, where it is neither a folder nor to be had.
    `where`: what stands before the colon of a message.
    """
    where, path = where or f"checkpoint={name}", Path(name).expanduser()
    if path.is_dir():
        return path
    found = NAME.match(str(name)) if is_name(str(name)) else None
    if found is None:
        raise ValueError(
            f"{where}: no such folder, and no name on the Hugging Face Hub; give a folder with "
            f"{CONFIG}, or owner/name such as HuggingFaceTB/SmolLM2-135M"
        )
    return _fetched(found["repo"], found["revision"], where)


def _fetched(repo: str, revision: str | None, where: str) -> Path:
    import huggingface_hub as hub
    from huggingface_hub import errors

    fetch = partial(
        hub.snapshot_download,
        repo,
        revision=revision,
        allow_patterns=WANTED,
        ignore_patterns=UNWANTED,
    )
    try:
        folder = fetch()
    except errors.GatedRepoError as error:
        raise ValueError(
            f"{where}: the Hub asks you to accept its terms at https://huggingface.co/{repo} and "
            "to log in with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{where}: {repo} has no revision {revision} on the Hub") from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"{where}: no such folder, and the Hub has no model {repo} that you may read"
        ) from error
    except Exception as error:  # of whatever library fetches: no network, a full disk, a timeout
        try:
            folder = fetch(local_files_only=True)
        except Exception:
            raise ValueError(
                f"{where}: no such folder, and {repo} is not in Hugging Face's cache and cannot "
                f"be fetched ({type(error).__name__}); check the name and the network, or give a "
                "folder"
            ) from error
    return Path(folder)
