"""Templates filled in. Whatever is put into one is text: none of it can become markup."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


def render(name: str, **content: Any) -> str:
    """The page that the template `name` makes of `content`; jinja2's error where some is missing.

    A text that is no Unicode (a file's name may hold such bytes) is shown with a mark for them.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(name).render(**content)
    return page.encode("utf-8", "replace").decode("utf-8") + "\n"
