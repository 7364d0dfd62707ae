"""A candidate that fails leaves a reason in place of its figure; the others go on."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def recorded(name: str, reasons: dict[str, str]) -> Iterator[None]:
    """Whatever is raised inside becomes the reason why `name` has no figure."""
    try:
        yield
    except Exception as error:
        reasons[name] = why(error)


def why(error: BaseException) -> str:
    """An exception in a line. Of one by torch.compile, the exception that it wraps."""
    inner = getattr(error, "inner_exception", None) or error
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[0][:200]}" if lines else type(inner).__name__
