"""Parts of messages as Anthropic's content blocks."""

from collections.abc import Iterable, Mapping

from shared.chat.message import (
    AudioPart,
    CacheMark,
    FilePart,
    ImagePart,
    Part,
    RefusalPart,
    TextPart,
)
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.data_url import DataUrl, is_data_url, read_data_url
from shared.providers.request import FetchedFile

IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
PDF = "application/pdf"
_READABLE = frozenset({"application/json", "application/xml", "application/yaml"})
"""Besides text/*: what can be sent as plain text."""

Block = dict[str, object]


def blocks_of(
    parts: Iterable[Part], *, files: Mapping[str, FetchedFile], where: str
) -> list[Block]:
    """Return the blocks of these parts; blank text makes none, for Anthropic refuses it.

    Raises:
        InvalidRequest: a data URL is broken.
        UnsupportedParameter: sound, or a file of a kind or place that Claude cannot read.
    """
    found = (_block(part, files, where) for part in parts)
    return [block for block in found if block is not None]


def urls_to_fetch(parts: Iterable[Part]) -> list[str]:
    """Return the URLs that Anthropic would not fetch by itself: those without TLS."""
    urls = (part.url for part in parts if isinstance(part, ImagePart | FilePart) and part.url)
    return [url for url in urls if url[:7].lower() == "http://"]


def cache_control(mark: CacheMark) -> Block:
    """Return a cache mark in Anthropic's words."""
    return {"type": "ephemeral"} if mark.ttl == "5m" else {"type": "ephemeral", "ttl": mark.ttl}


def marked(block: Block, mark: CacheMark | None) -> Block:
    """Return the block with its cache mark, if it has one."""
    return block if mark is None else {**block, "cache_control": cache_control(mark)}


def text_block(text: str, mark: CacheMark | None = None) -> Block | None:
    """Return a block of text, None for blank text."""
    return marked({"type": "text", "text": text}, mark) if text.strip() else None


def _block(part: Part, files: Mapping[str, FetchedFile], where: str) -> Block | None:
    match part:
        case TextPart():
            return text_block(part.text, part.cache)
        case RefusalPart():
            return text_block(part.text)
        case ImagePart():
            return marked({"type": "image", "source": _image(part.url, files, where)}, part.cache)
        case FilePart():
            return marked(_document(part, files, where), part.cache)
        case AudioPart():
            raise UnsupportedParameter("Claude does not take sound.", param=where)


def _image(url: str, files: Mapping[str, FetchedFile], where: str) -> Block:
    found = _content(url, files, where)
    if found is None:
        return {"type": "url", "url": url}
    return _image_source(found, where)


def _image_source(found: DataUrl, where: str) -> Block:
    if found.media_type not in IMAGES:
        raise UnsupportedParameter(
            f"Claude reads JPEG, PNG, GIF and WebP, not {found.media_type[:80]!r}.", param=where
        )
    return {"type": "base64", "media_type": found.media_type, "data": found.base64}


def _document(part: FilePart, files: Mapping[str, FetchedFile], where: str) -> Block:
    if part.file_id is not None:
        # Anthropic's own ids; `file-…` is another vendor's, and means nothing there.
        if not part.file_id.startswith("file_"):
            raise UnsupportedParameter(
                f"The file {part.file_id[:80]!r} is not stored at Anthropic.", param=where
            )
        return _titled({"type": "file", "file_id": part.file_id}, part)
    url = part.data_url or part.url
    if url is None:
        raise InvalidRequest("A file needs `file_data` or `file_id`.", param=where)
    if part.data_url is not None and not is_data_url(url):
        # OpenAI's own form is a data URL, but bare base64 of a PDF is common.
        url = f"data:{PDF};base64,{url}"
    found = _content(url, files, where)
    if found is None:
        return _titled({"type": "url", "url": url}, part)
    if found.media_type in IMAGES:
        return {"type": "image", "source": _image_source(found, where)}
    return _titled(_document_source(found, where), part)


def _document_source(found: DataUrl, where: str) -> Block:
    if found.media_type == PDF:
        return {"type": "base64", "media_type": PDF, "data": found.base64}
    if found.media_type.startswith("text/") or found.media_type in _READABLE:
        try:
            text = found.content.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest("A text file is not UTF-8.", param=where) from error
        return {"type": "text", "media_type": "text/plain", "data": text}
    raise UnsupportedParameter(
        f"Claude reads PDF and text, not {found.media_type[:80]!r}.", param=where
    )


def _titled(source: Block, part: FilePart) -> Block:
    title = {} if part.filename is None else {"title": part.filename}
    return {"type": "document", "source": source, **title}


def _content(url: str, files: Mapping[str, FetchedFile], where: str) -> DataUrl | None:
    """Return the file itself, None where Anthropic is to fetch it."""
    if is_data_url(url):
        return read_data_url(url, where=where)
    fetched = files.get(url)
    if fetched is not None:
        return DataUrl.of(fetched.media_type, fetched.content)
    if url[:8].lower() != "https://":
        raise UnsupportedParameter("Claude fetches https URLs only.", param=where)
    return None
