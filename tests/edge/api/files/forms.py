"""Files as clients send them, and what is left of them."""

import asyncio

import sqlalchemy as sa

from api.edge import Edge

LINES = b'{"custom_id": "1"}\r\n--\r\n' * 100


async def put(http, content=LINES, *, filename="in.jsonl", **fields):
    """Store a file; a field that is None is left out."""
    given = {"purpose": "batch", **fields}
    data = {name: value for name, value in given.items() if value is not None}
    return await http.post("/v1/files", data=data, files={"file": (filename, content)})


def form_around(filename, **fields):
    """Return what stands before a file's bytes in a form, and after them."""
    head = b"".join(
        b'--x\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        % (name.encode(), value.encode())
        for name, value in fields.items()
    )
    disposition = b'content-disposition: form-data; name="file"; filename="%b"'
    return head + b"--x\r\n" + disposition % filename.encode() + b"\r\n\r\n", b"\r\n--x--\r\n"


async def objects_in(edge: Edge):
    folder = edge.runtime.settings.data_dir / "objects"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def until(edge: Edge, *, rows: int):
    """Return as soon as there are so many files."""
    async with asyncio.timeout(10):
        while len(await rows_in(edge)) != rows:  # noqa: ASYNC110 (the database has no event)
            await asyncio.sleep(0.005)


async def rows_in(edge: Edge):
    """Return every file's row, also those that nobody sees."""
    async with edge.runtime.store.read() as tx:
        return [row.id for row in await tx.connection.execute(sa.text("SELECT id FROM file"))]
