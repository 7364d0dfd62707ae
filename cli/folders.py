"""Where the options of groups lie: in configs/, and in the folder that the user names.

`--config-dir my` adds my/experiment/x.yaml as `experiment=x`, my/model/wide.yaml as `model=wide`.
Hydra looks into configs/ first, so that a file of the same name in the user's folder would be
passed over: it is refused.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import yaml
from omegaconf._utils import get_yaml_loader  # which refuses a key that is there twice

from cli.errors import UserError, refuse

CONFIGS = Path(__file__).parent.parent / "configs"
MOST_LINES = 3  # of mistakes in one folder
_of_user: list[Path] = []


def use_folder(folder: str | None) -> None:
    """Add a folder of the user's to configs/, or none. UserError where it is not one of options."""
    _of_user.clear()
    if folder is None:
        return
    path, asked = Path(os.path.abspath(folder)), f"--config-dir={folder}"
    if not path.is_dir():
        what = "is a file" if path.exists() else "no such directory"
        raise UserError(f"{asked}: {what}; give the one that holds e.g. experiment/mine.yaml")
    own = list(_options_in(path))
    if not own:
        raise UserError(f"{asked}: holds no option of a group, such as experiment/mine.yaml")
    wrong = ((file.relative_to(path), _wrong(file)) for file in own)
    refuse([f"{asked}: {file}: {why}" for file, why in wrong if why][:MOST_LINES])
    _of_user.append(path)


def users_folder() -> Path | None:
    """The folder that the user has added."""
    return _of_user[0] if _of_user else None


def is_group(name: str) -> bool:
    """Whether `name=` chooses one of a group's options."""
    return name != "" and (CONFIGS / name).is_dir()


def group_options(group: str) -> list[str]:
    """The names that `group=` takes; files with a leading underscore are for sharing only."""
    names = (
        file.relative_to(folder / group).with_suffix("").as_posix()
        for folder in (CONFIGS, *_of_user)
        for file in (folder / group).rglob("*.yaml")
    )
    return sorted(name for name in names if not name.startswith("_"))


def option_file(group: str, option: str) -> Path | None:
    """The file of `group=option`; None where there is none."""
    files = (folder / group / f"{option}.yaml" for folder in (CONFIGS, *_of_user))
    return next((file for file in files if file.is_file()), None)


def _options_in(folder: Path) -> Iterator[Path]:
    """The files that are options of the project's groups; all else in there may be anything."""
    for group in sorted(path.name for path in CONFIGS.iterdir() if path.is_dir()):
        yield from sorted((folder / group).rglob("*.yaml"))


def _wrong(file: Path) -> str | None:
    """Why Hydra could not use the file of an option, or would not."""
    group = next(parent for parent in file.parents if is_group(parent.name)).name
    inside = file.as_posix().rpartition(f"/{group}/")[2]
    if (CONFIGS / group / inside).exists():
        return f"the project has a {group}={Path(inside).with_suffix('')}; take another name"
    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.load(text, get_yaml_loader())
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except UnicodeDecodeError:
        return "is not UTF-8; save it as such"
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"line {mark.line + 1}: " if mark else ""
        return f"is no YAML ({at}{getattr(error, 'problem', None) or 'damaged'})"
    if content is not None and not isinstance(content, dict):
        return "holds no key: value lines"
    defaults = (content or {}).get("defaults", [])
    if not isinstance(defaults, list) or not all(isinstance(d, (str, dict)) for d in defaults):
        return "defaults: must be a list of options, e.g. [nano]"
    if group == "experiment" and "@package _global_" not in text:
        return "must begin with the line # @package _global_, as it sets keys of all groups"
    return None
