"""`multipart/form-data` (RFC 7578), read without copying the file inside and changed in place."""

import re
from collections.abc import Mapping

import msgspec

from shared.errors import InvalidRequest

MAX_PARTS = 64
MAX_HEAD_BYTES = 4096
"""Of one part: its name, the file's name and type."""

_boundary = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)
_name = re.compile(rb'content-disposition:[^\r\n]*?;\s*name="([^"\r\n]*)"', re.IGNORECASE)
_filename = re.compile(rb"content-disposition:[^\r\n]*?;\s*filename\*?=", re.IGNORECASE)


class FormPart(msgspec.Struct, frozen=True, kw_only=True):
    """One field: where its value lies in the body, and whether it is a file."""

    name: str
    start: int
    end: int
    is_file: bool = False


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a body, in order."""

    boundary: bytes
    parts: tuple[FormPart, ...]

    def part(self, name: str) -> FormPart | None:
        """Return the first field of that name."""
        return next((part for part in self.parts if part.name == name), None)

    def text(self, raw: bytes, name: str) -> str | None:
        """Return a field's text, None when there is no such field.

        Raises:
            InvalidRequest: it is a file, or no UTF-8.
        """
        part = self.part(name)
        if part is None:
            return None
        try:
            if not part.is_file:
                return raw[part.start : part.end].decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"`{name}` is not UTF-8.", param=name) from error
        raise InvalidRequest(f"`{name}` must be a text, not a file.", param=name)


def read_form(content_type: str, raw: bytes) -> Form:
    """Return where the fields lie.

    Raises:
        InvalidRequest: the type names no boundary, or the body is not made of such parts.
    """
    found = _boundary.search(content_type)
    if found is None:
        raise InvalidRequest("The Content-Type of a form must name its boundary.")
    boundary = (found[1] or found[2]).encode("latin-1", "replace")
    mark = b"\r\n--" + boundary
    at = 0 if raw.startswith(mark[2:]) else raw.find(mark) + 2
    if at == 1:
        raise InvalidRequest("The body is not the form that its Content-Type says.")
    at += len(mark) - 2
    parts: list[FormPart] = []
    while raw[at : at + 2] != b"--":
        part, at = _part(raw, at, mark)
        parts.append(part)
        if len(parts) > MAX_PARTS:
            raise InvalidRequest(f"A form has at most {MAX_PARTS} fields.")
    return Form(boundary=boundary, parts=tuple(parts))


def with_fields(raw: bytes, form: Form, fields: Mapping[str, str]) -> bytes:
    """Return the body with these texts as fields: in their place, new ones first."""
    pieces: list[bytes] = []
    for name, value in fields.items():
        if form.part(name) is None:
            head = f'Content-Disposition: form-data; name="{name}"'.encode()
            pieces += [b"--", form.boundary, b"\r\n", head, b"\r\n\r\n", value.encode(), b"\r\n"]
    done = 0
    for part in form.parts:
        if part.name in fields:
            pieces += [raw[done : part.start], fields[part.name].encode()]
            done = part.end
    return b"".join([*pieces, raw[done:]])


def _part(raw: bytes, at: int, mark: bytes) -> tuple[FormPart, int]:
    """Return the part that begins after a mark, and the place behind the next mark."""
    head_end = raw.find(b"\r\n\r\n", at, at + MAX_HEAD_BYTES)
    end = raw.find(mark, head_end + 2)
    name = _name.search(raw, at, head_end) if head_end >= 0 else None
    if end < 0 or name is None:
        raise InvalidRequest("The form is broken: a field without a name, or without an end.")
    part = FormPart(
        name=name[1].decode("utf-8", "replace"),
        start=min(head_end + 4, end),
        end=end,
        is_file=_filename.search(raw, at, head_end) is not None,
    )
    return part, end + len(mark)
