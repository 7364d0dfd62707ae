"""A page as a browser reads it: its text, links, pictures and identifiers."""

from html.parser import HTMLParser
from pathlib import Path

VOID = ("meta", "img", "link", "br")
AT = ("src", "href", "srcset", "action", "data", "poster")  # attributes that fetch or lead on


class Page(HTMLParser):
    """Attributes: text, tags, ids, links, images (their attributes), handlers (on…=)."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source, self.text = source, ""
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str]] = []
        self.handlers: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()

    @classmethod
    def read(cls, path: Path) -> "Page":
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in AT if name in found]
        self.images += [found] if tag == "img" else []
        self.handlers += [name for name in found if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def assert_stands_alone(page: Page) -> None:
    """Nothing is fetched or executed, links within lead somewhere, pictures have words."""
    assert page.open == [], "every element is closed"
    assert not {"script", "iframe", "link", "object", "embed", "svg"} & set(page.tags)
    assert not page.handlers and "@import" not in page.source and "url(" not in page.source
    for link in page.links:
        address = link.partition(";base64,")[0]
        assert "//" not in address and not address.startswith("javascript:"), address
    inner = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inner) <= set(page.ids) and len(page.ids) == len(set(page.ids))
    assert all(image["alt"] for image in page.images)
