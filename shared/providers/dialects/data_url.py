"""Files inside JSON, as data URLs: `data:image/png;base64,…`."""

import base64
import binascii
from urllib.parse import unquote_to_bytes

import msgspec

from shared.errors import InvalidRequest

_SAME = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "application/x-pdf": "application/pdf",
}


class DataUrl(msgspec.Struct, frozen=True, kw_only=True):
    """What a data URL holds; `media_type` is lower case and without parameters."""

    media_type: str
    base64: str

    @classmethod
    def of(cls, media_type: str, content: bytes) -> "DataUrl":
        """Return what a data URL of these bytes would hold."""
        plain = media_type.partition(";")[0].strip().lower()
        return cls(
            media_type=_SAME.get(plain, plain), base64=base64.b64encode(content).decode("ascii")
        )

    @property
    def content(self) -> bytes:
        """The file's bytes."""
        return base64.b64decode(self.base64)


def is_data_url(url: str) -> bool:
    """Return whether the URL is the file itself."""
    return url[:5].lower() == "data:"


def read_data_url(url: str, *, where: str = "messages") -> DataUrl:
    """Return what a data URL holds. Misspelt media types are put right (`image/jpg`).

    Raises:
        InvalidRequest: it is none, it is empty, or its base64 is broken; `param` is `where`.
    """
    head, comma, data = url.partition(",")
    if not comma or not is_data_url(head):
        raise InvalidRequest("A data URL must read `data:TYPE;base64,DATA`.", param=where)
    media_type, *parameters = (word.strip().lower() for word in head[5:].split(";"))
    if "base64" not in parameters:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    else:
        data = _checked(data, where)
    if not data:
        raise InvalidRequest("A data URL holds no data.", param=where)
    media_type = media_type or "text/plain"
    return DataUrl(media_type=_SAME.get(media_type, media_type), base64=data)


def _checked(data: str, where: str) -> str:
    """Return the base64 as providers want it: standard letters, padded, on one line."""
    if "\n" in data or "\r" in data or " " in data or "%" in data:
        data = unquote_to_bytes("".join(data.split())).decode("latin-1")
    data = data.rstrip("=").replace("-", "+").replace("_", "/")
    data += "=" * (-len(data) % 4)
    try:
        binascii.a2b_base64(data, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("The base64 of a data URL is broken.", param=where) from error
    return data
