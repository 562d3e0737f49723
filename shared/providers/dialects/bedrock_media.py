"""Pictures, documents and sound as Bedrock's blocks: bytes, for it takes no URLs.

It would read S3, but with the operator's rights: a caller could see what is not theirs.
"""

import base64
import re
from collections.abc import Mapping

from shared.chat.message import AudioPart, FilePart, ImagePart, Part
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.bedrock_models import Family
from shared.providers.dialects.data_url import DataUrl, is_data_url, read_data_url
from shared.providers.request import FetchedFile

Block = dict[str, object]

_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    _WORD: "docx",
    "application/vnd.ms-excel": "xls",
    _SHEET: "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "application/json": "txt",
    "text/markdown": "md",
}
_SOUNDS = frozenset(
    {"mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "mka", "x-aac", "m4a", "mpeg",
     "mpga", "pcm", "webm"}
)  # fmt: skip
_EXTENSION = re.compile(r"\.([a-z]{2,4})$")
_FORMAT_OF = {"jpg": "jpeg", "text": "txt", "htm": "html"}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9 \-()\[\]]+")
_BLANKS = re.compile(r" {2,}")
_LONGEST_NAME = 200

PACKED = "bedrock:"
"""Marks a redacted thought that is no text; no base64 has a colon."""


def url_of(part: Part) -> str | None:
    """Return the URL whose content has to be fetched for this part, None where there is none."""
    url = part.url if isinstance(part, ImagePart | FilePart) else None
    return url if url is not None and url[:5].lower() in {"http:", "https"} else None


class Media:
    """Makes the blocks of one request; knows the files fetched for it and the names it has given.

    Raises:
        InvalidRequest: a data URL is broken, or a part names no content.
        UnsupportedParameter: a kind or place of content that Bedrock's model cannot take.
    """

    def __init__(self, files: Mapping[str, FetchedFile], family: Family) -> None:
        self._files = files
        self._family = family
        self._names: set[str] = set()

    def image(self, part: ImagePart, where: str) -> Block:
        """Return a picture's block."""
        return _image(self._content(part.url, where), where)

    def document(self, part: FilePart, where: str) -> Block:
        """Return a document's block, or a picture's where the file is one."""
        url = part.data_url or part.url
        if url is None:
            if part.file_id is None:
                raise InvalidRequest("A file needs `file_data` or a URL.", param=where)
            raise UnsupportedParameter(
                f"The file {part.file_id[:80]!r} is not stored at Bedrock; send its content.",
                param=where,
            )
        name = self._name(part.filename)
        if part.data_url is not None and not is_data_url(url):
            # OpenAI's own form is a data URL, but bare base64 of a PDF is common.
            url = f"data:application/pdf;base64,{url}"
        found = self._content(url, where)
        if found.media_type in _IMAGES:
            return _image(found, where)
        form = _DOCUMENTS.get(found.media_type) or _extension(part.filename or "")
        if form not in _DOCUMENTS.values():
            raise UnsupportedParameter(
                f"Bedrock takes no documents of the type {found.media_type[:80]!r}.", param=where
            )
        source = {"bytes": found.base64}
        return {"document": {"format": form, "name": name, "source": source}}

    def audio(self, part: AudioPart, where: str) -> Block:
        """Return a sound's block."""
        form = part.format.lower()
        if not self._family.audio:
            raise UnsupportedParameter("This model does not take sound.", param=where)
        if form not in _SOUNDS:
            raise UnsupportedParameter(
                f"Bedrock takes no sound of the format {form[:40]!r}.", param=where
            )
        found = read_data_url(f"data:audio/{form};base64,{part.data}", where=where)
        return {"audio": {"format": form, "source": {"bytes": found.base64}}}

    def _content(self, url: str, where: str) -> DataUrl:
        if is_data_url(url):
            return read_data_url(url, where=where)
        fetched = self._files.get(url)
        if fetched is None:
            raise UnsupportedParameter("An http, https or data URL is wanted.", param=where)
        return DataUrl.of(fetched.media_type, fetched.content)

    def _name(self, filename: str | None) -> str:
        """Return a name of the allowed characters that no other document of the request has."""
        stem = (filename or "").rpartition("/")[2]
        clean = _BLANKS.sub(" ", _NOT_IN_NAMES.sub(" ", stem)).strip()[:_LONGEST_NAME]
        clean = clean or "document"
        name, number = clean, 1
        while name in self._names:
            number += 1
            suffix = f" ({number})"
            name = clean[: _LONGEST_NAME - len(suffix)] + suffix
        self._names.add(name)
        return name


def redacted(signature: str) -> Block:
    """Return a thought that may not be read, as its model wrote it."""
    packed = signature.removeprefix(PACKED)
    if packed == signature:
        packed = base64.b64encode(signature.encode("utf-8", "surrogatepass")).decode()
    return {"reasoningContent": {"redactedContent": packed}}


def _image(found: DataUrl, where: str) -> Block:
    form = _IMAGES.get(found.media_type)
    if form is None:
        raise UnsupportedParameter(
            f"Bedrock reads JPEG, PNG, GIF and WebP, not {found.media_type[:80]!r}.", param=where
        )
    return {"image": {"format": form, "source": {"bytes": found.base64}}}


def _extension(name: str) -> str | None:
    found = _EXTENSION.search(name.lower())
    return None if found is None else _FORMAT_OF.get(found[1], found[1])
