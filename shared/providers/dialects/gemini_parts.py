"""What people and tools say, as parts of Gemini's contents."""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from shared.chat.message import (
    AudioPart,
    FilePart,
    ImagePart,
    Message,
    Part,
    RefusalPart,
    TextPart,
)
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.data_url import is_data_url, read_data_url
from shared.providers.dialects.gemini_models import Gemini
from shared.providers.request import FetchedFile

Json = dict[str, Any]

_READ = re.compile(r"(image|audio|video|text)/[\w.+-]+|application/(pdf|json|xml|rtf)")
_MEDIA_TYPES = {"image/jpg": "image/jpeg", "audio/mpeg": "audio/mp3", "audio/x-wav": "audio/wav"}
_OF_SUFFIX = {
    "jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp",
    "gif": "image/gif", "heic": "image/heic", "heif": "image/heif", "pdf": "application/pdf",
    "txt": "text/plain", "md": "text/markdown", "csv": "text/csv", "html": "text/html",
    "json": "application/json", "mp3": "audio/mp3", "wav": "audio/wav", "mp4": "video/mp4",
    "mov": "video/quicktime", "webm": "video/webm",
}  # fmt: skip
_GOOGLES_OWN = ("gs://", "files/", "https://generativelanguage.googleapis.com/")
_SCHEMES = ("https://", "http://", *_GOOGLES_OWN)
_VIDEO_SITES = frozenset({"youtube.com", "www.youtube.com", "youtu.be", "m.youtube.com"})


def parts_of(message: Message, model: Gemini, files: Mapping[str, FetchedFile]) -> list[Json]:
    """Return a message's parts; empty texts are left out, for they are refused.

    Raises:
        InvalidRequest: a data URL is broken or of a type that no model reads.
        UnsupportedParameter: a file that was uploaded to another provider.
    """
    return [part for one in message.parts if (part := part_of(one, model, files)) is not None]


def part_of(part: Part, model: Gemini, files: Mapping[str, FetchedFile]) -> Json | None:
    """Return one part, None for a text without a letter."""
    match part:
        case TextPart() | RefusalPart():
            return {"text": part.text} if part.text else None
        case ImagePart():
            return _file(part.url, model, files, otherwise="image/jpeg")
        case AudioPart():
            return _inline(f"audio/{part.format}", _checked(part.data))
        case FilePart(data_url=str(data_url)):
            if not is_data_url(data_url):
                return _inline(_type_of(part.filename) or "application/pdf", _checked(data_url))
            return _file(data_url, model, files, otherwise="application/pdf")
        case FilePart(url=str(url)):
            return _file(url, model, files, otherwise=_type_of(part.filename) or "application/pdf")
        case FilePart(file_id=str(file_id)) if _is_googles(file_id):
            return {"fileData": {"fileUri": file_id}}
        case FilePart():
            raise UnsupportedParameter(
                "Gemini does not have this file; send its content as `file_data`.", param="messages"
            )


def fetched_by_us(messages: Sequence[Message], model: Gemini) -> list[str]:
    """Return the URLs that this model does not read by itself, or not without their type."""
    urls = [
        part.url
        for message in messages
        for part in message.parts
        if isinstance(part, ImagePart | FilePart) and part.url is not None
    ]
    return [url for url in urls if not _is_read_there(url, model)]


def result_of(message: Message) -> Json:
    """Return a tool's result as the object that Gemini wants.

    A JSON object goes as it is, unless it refers to something (`$ref` is refused); a list as
    `{"output": [...]}`, any other text as `{"output": "..."}`, that of an error as `error`.
    """
    text = message.text
    if message.is_error:
        return {"error": text}
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {"output": text}
    if '"$ref"' in text:
        return {"output": text}
    if isinstance(found, dict):
        return found
    return {"output": found if isinstance(found, list) else text}


def arguments_of(arguments: str) -> Json:
    """Return a call's arguments as an object: none for an empty text, `{"input": …}` for others."""
    if not arguments.strip():
        return {}
    try:
        found = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return {"input": arguments}
    return found if isinstance(found, dict) else {"input": found}


def _file(url: str, model: Gemini, files: Mapping[str, FetchedFile], *, otherwise: str) -> Json:
    if url in files:
        found = files[url]
        return _inline(found.media_type, base64.b64encode(found.content).decode())
    if not is_data_url(url):
        return _linked(url, model, otherwise=otherwise)
    found_url = read_data_url(url)
    untyped = url[len("data:")] in ";,"
    return _inline(otherwise if untyped else found_url.media_type, found_url.base64)


def _linked(url: str, model: Gemini, *, otherwise: str) -> Json:
    if not url.startswith(_SCHEMES):
        raise InvalidRequest(f"{url[:80]!r} is no URL of a file.", param="messages")
    media_type = _type_of(url)
    if model.vertex:
        media_type = media_type or otherwise  # it wants one, and looks for itself
    typed = {} if media_type is None else {"mimeType": media_type}
    return {"fileData": {**typed, "fileUri": url}}


def _inline(media_type: str, data: str) -> Json:
    media_type = media_type.partition(";")[0].strip().lower()
    media_type = _MEDIA_TYPES.get(media_type, media_type)
    if not _READ.fullmatch(media_type):
        raise InvalidRequest(f"Gemini reads no {media_type[:80]}.", param="messages")
    return {"inlineData": {"mimeType": media_type, "data": data}}


def _checked(data: str) -> str:
    """Return bare base64 as it has to be."""
    return read_data_url(f"data:;base64,{data}").base64


def _type_of(name: str | None) -> str | None:
    suffix = urlsplit(name or "").path.rpartition(".")[2].lower()
    return _OF_SUFFIX.get(suffix)


def _is_googles(url: str) -> bool:
    return url.startswith(_GOOGLES_OWN) or urlsplit(url).hostname in _VIDEO_SITES


def _is_read_there(url: str, model: Gemini) -> bool:
    if not url.startswith(("https://", "http://")) or _is_googles(url):
        return True
    return model.reads_urls and url.startswith("https://") and _type_of(url) is not None
