"""What led to an exception."""

from collections.abc import Iterator


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and what led to it, as a traceback would show them."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
