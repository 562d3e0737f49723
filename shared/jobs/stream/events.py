"""Events as they are kept and told: named, numbered, several in a row. Pure."""

from collections.abc import Iterator

from shared.store.job_events import EventRows


def written(name: bytes, data: bytes) -> bytes:
    """Return one server-sent event; `name` may be empty."""
    head = b"event: %b\n" % name if name else b""
    return b"%bdata: %b\n\n" % (head, data.replace(b"\n", b"\ndata: "))


def told(row: EventRows, after: int) -> Iterator[tuple[int, bytes]]:
    """Yield the events of a row that are numbered above `after`, each as it goes out."""
    blocks = row.events.split(b"\n\n")[:-1]
    for number, block in enumerate(blocks, row.first_no):
        if number > after:
            yield number, block + b"\n\n"
