"""From the bytes of one connection to answers, one after the other; httptools does the parsing."""

import re
from functools import lru_cache
from http import HTTPStatus

import httptools

from shared.providers.http1_answer import Answer

MAX_LINE_BYTES = 16 * 1024
"""Of one header; the largest that vendors send are policies of some 4 KiB."""
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 200
MAX_INTERIM = 100
"""Interim answers (1xx) before the real one."""
MAX_BARREN_BYTES = MAX_HEAD_BYTES + MAX_LINE_BYTES
"""Bytes without any body among them: the parser does not tell of a line that never ends."""

_INTERIM = range(100, 200)
_FINAL = range(200, 1000)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,6})\r\n")
_SIZE_LINE_BYTES = 8
"""As much of a chunk's beginning holds its size, with the line break."""
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class Unreadable(Exception):
    """The bytes are no HTTP answer, or one beyond the limits; nothing after them can be read."""


class Parser:
    """Fills one answer after the other.

    `heard`: a byte has come since the answer was begun. `complete`: it is whole. `keeps_alive`:
    another may follow on this connection. `until_close`: the connection's end is the body's.
    `pieces`: how many chunks there were in what `chunks` returned last.
    """

    __slots__ = (
        "_answer",
        "_barren_bytes",
        "_between",
        "_bodiless",
        "_head_bytes",
        "_header_count",
        "_headers",
        "_interim_count",
        "_parser",
        "_skipping",
        "complete",
        "heard",
        "keeps_alive",
        "pieces",
        "until_close",
    )

    def __init__(self, answer: Answer) -> None:
        self._parser = httptools.HttpResponseParser(self)
        # As far as aiohttp goes: small servers end lines with LF alone and pad chunk sizes.
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self.pieces = 0
        self.begin(answer)

    def begin(self, answer: Answer) -> None:
        """Fill this answer from now on; the one before is complete."""
        self._answer = answer
        self._headers: dict[bytes, bytes] = {}
        self._barren_bytes = self._head_bytes = self._header_count = self._interim_count = 0
        self._between = self._bodiless = self._skipping = False
        self.heard = self.complete = self.keeps_alive = self.until_close = False

    def expect_no_body(self) -> None:
        """Take the head for the whole answer, as that to a HEAD is."""
        self._bodiless = True

    def feed(self, data: bytes) -> None:
        """Take bytes as they come, however they are cut.

        Raises:
            Unreadable: whatever follows. The answer may be `complete` nevertheless.
        """
        self.heard = True
        self._barren_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise Unreadable from error
        if self._between and data[-2:] != b"\r\n":
            # The next chunk's size may have begun. Had it ended so, `on_chunk_header` had been
            # called; where LF alone ends it, that waits for one more byte.
            self._between = False
        if self._barren_bytes > MAX_BARREN_BYTES and not self.complete:
            raise Unreadable

    def chunks(self, data: bytes) -> bytes | None:
        """Return the piece of the body in `data` if that is whole chunks and nothing else.

        The parser stays between two chunks, where it is, and needs not hear of it. None where it
        has to be fed.
        """
        if not self._between or not data.endswith(b"\r\n"):
            return None
        pieces = []
        begin, length = 0, len(data)
        while begin < length:
            start = data.find(b"\r\n", begin, begin + _SIZE_LINE_BYTES) + 2
            begin, end = start, start + _chunk_size(data[begin:start])
            if end == start or data[end : end + 2] != b"\r\n":
                return None
            pieces.append(data[start:end])
            begin = end + 2
        self.pieces = len(pieces)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # Called by httptools; what they raise ends the parsing.

    def on_message_begin(self) -> None:
        """Refuse a second answer to one request."""
        if self.complete:
            raise Unreadable

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes after the body (trailers) is ignored."""
        if self._answer.opened:
            return
        length_bytes = len(name) + len(value)
        self._head_bytes = head_bytes = self._head_bytes + length_bytes
        self._header_count = count = self._header_count + 1
        if count > MAX_HEADERS or (
            head_bytes > MAX_LINE_BYTES
            and (length_bytes > MAX_LINE_BYTES or head_bytes > MAX_HEAD_BYTES)
        ):
            raise Unreadable
        lower, headers = name.lower(), self._headers
        if lower not in headers:
            headers[lower] = value
        elif lower == b"transfer-encoding":
            raise Unreadable

    def on_headers_complete(self) -> None:
        """Take the end of a head: the answer's, or an interim one's, which is skipped."""
        status = self._parser.get_status_code()
        if status not in _FINAL:
            self._skip(status)
            return
        headers = self._headers
        coding = headers.get(b"transfer-encoding")
        if coding is not None and coding.strip().lower() != b"chunked":
            # Nobody asked for it, and nothing here could undo it.
            raise Unreadable
        self.until_close = (
            coding is None and b"content-length" not in headers and status not in _BODILESS
        )
        self._answer.open(status, headers)
        if self._bodiless:
            # httptools would wait for the body that the length speaks of.
            self.complete = True
            raise Unreadable

    def _skip(self, status: int) -> None:
        self._interim_count += 1
        if (
            status not in _INTERIM
            or status == HTTPStatus.SWITCHING_PROTOCOLS
            or self._interim_count > MAX_INTERIM
        ):
            raise Unreadable
        self._headers = {}
        self._skipping = True

    def on_chunk_header(self) -> None:
        """Take the size of a chunk."""
        self._between = False

    def on_chunk_complete(self) -> None:
        """Take the end of a chunk."""
        self._between = True

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._barren_bytes = 0
        self._answer.add(data)

    def on_message_complete(self) -> None:
        """Take the end of an answer."""
        if self._skipping:
            self._skipping = False
            return
        self.complete = True
        # Not later: httptools forgets it together with the message.
        self.keeps_alive = self._parser.should_keep_alive()


@lru_cache(maxsize=1024)
def _chunk_size(line: bytes) -> int:
    """Return the size that a whole line tells, 0 where it does not simply tell one."""
    found = _CHUNK_SIZE.fullmatch(line)
    return int(found[1], 16) if found else 0
