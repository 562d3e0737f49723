"""`multipart/form-data` (RFC 7578) with a file inside that is not held in memory."""

from collections.abc import AsyncIterator

import msgspec
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from shared.errors import InvalidRequest
from shared.providers.dialects.passed import FORM

MAX_FIELDS = 32
MAX_TEXT_BYTES = 8 * 1024
"""Of a field that is no file."""
OVERHEAD_BYTES = 64 * 1024
"""What a body may have beside its file."""


class FormFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is arriving; read its pieces before anything else of the form."""

    filename: str | None
    pieces: AsyncIterator[bytes]


class Form:
    """A body as it arrives: `file` is the field whose value may be large, all others are text.

    `fields` has what has come so far.

    Raises:
        InvalidRequest: the content type is another.
    """

    def __init__(self, body: AsyncIterator[bytes], content_type: bytes, *, file: str) -> None:
        kind, options = parse_options_header(content_type.decode("latin-1"))
        boundary = options.get("boundary")
        if kind != FORM or not boundary:
            raise InvalidRequest(f"Send the file in a form with 'Content-Type: {FORM}'.")
        self.fields: dict[str, str] = {}
        self._file = file
        self._events = _events(body, boundary)

    async def next_file(self) -> FormFile | None:
        """Return the file once it begins to arrive, None at the end of the form.

        Raises:
            InvalidRequest: the form is broken, has too much beside the file or a field twice.
        """
        async for event in self._events:
            if not isinstance(event, MultipartSegment):
                continue
            if event.name == self._file:
                return FormFile(filename=event.filename, pieces=self._pieces())
            await self._read_text(event.name or "")
        return None

    async def _read_text(self, name: str) -> None:
        if name in self.fields:
            raise InvalidRequest(f"`{name}` stands in the form twice.", param=name)
        text = bytearray()
        async for piece in self._pieces():
            text += piece
            if len(text) > MAX_TEXT_BYTES:
                raise InvalidRequest(f"`{name}` is too long.", param=name)
        try:
            self.fields[name] = text.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"`{name}` is not UTF-8.", param=name) from error

    async def _pieces(self) -> AsyncIterator[bytes]:
        async for event in self._events:
            if not isinstance(event, bytes | bytearray):
                return
            yield bytes(event)


async def _events(
    body: AsyncIterator[bytes], boundary: str
) -> AsyncIterator[MultipartSegment | bytearray | bytes | None]:
    """Yield a segment, its pieces, None at its end, and so on."""
    try:
        parser = PushMultipartParser(boundary, max_segment_count=MAX_FIELDS)
        async for piece in body:
            for event in parser.parse(piece):
                yield event
        parser.close()
    except MultipartError as error:
        raise InvalidRequest(f"The body is not a whole form: {error}.") from error
