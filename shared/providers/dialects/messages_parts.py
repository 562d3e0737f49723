"""What a caller's content blocks say, as parts."""

from collections.abc import Iterator, Mapping

import msgspec

from shared.chat.message import CacheMark, FilePart, ImagePart, Part, TextPart
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.messages_wire import WireBlock, WireSource


def texts(content: str | list[WireBlock], where: str) -> tuple[Part, ...]:
    """Return what a text or a list of blocks says; `where` it stands is told by errors."""
    if isinstance(content, str):
        return (TextPart(text=content),)
    return tuple(
        part for at, block in enumerate(content) for part in parts_of(block, f"{where}[{at}]")
    )


def parts_of(block: WireBlock, where: str) -> Iterator[Part]:
    """Yield what a block says; only a document made of blocks says more than one thing.

    Raises:
        InvalidRequest: something of it is missing; `param` names it.
        UnsupportedParameter: only Anthropic itself can take it.
    """
    cache = cache_of(block.cache_control)
    source = block.source
    match block.type:
        case "text":
            if block.text is None:
                raise InvalidRequest(f"`{where}.text` is required.", param=f"{where}.text")
            yield TextPart(text=block.text, cache=cache)
        case "image" if isinstance(source, WireSource):
            yield ImagePart(url=_url(source, where), cache=cache)
        case "document" if isinstance(source, WireSource):
            yield from _document(block, source, cache, where)
        case "search_result":
            yield TextPart(text=_search_result(block), cache=cache)
        case "image" | "document":
            raise InvalidRequest(f"`{where}.source` is required.", param=f"{where}.source")
        case other:
            raise UnsupportedParameter(
                f"`{where}`: a block of type {other!r} can only go to Anthropic itself.",
                param=where,
            )


def _url(source: WireSource, where: str) -> str:
    match source.type:
        case "url" if source.url is not None:
            return source.url
        case "base64" if source.data is not None and source.media_type is not None:
            return f"data:{source.media_type};base64,{source.data}"
        case "file":
            raise UnsupportedParameter(
                f"`{where}.source`: a file of Anthropic's can only go to Anthropic itself.",
                param=f"{where}.source",
            )
        case _:
            raise InvalidRequest(f"`{where}.source` is incomplete.", param=f"{where}.source")


def _document(
    block: WireBlock, source: WireSource, cache: CacheMark | None, where: str
) -> Iterator[Part]:
    """Yield a document; text becomes text, for few providers take files of it."""
    match source.type:
        case "text":
            yield TextPart(text=_titled(block, source.data or ""), cache=cache)
        case "content":
            inner = texts(source.content or "", f"{where}.source.content")
            if block.title or block.context:
                yield TextPart(text=_titled(block, None))
            yield from marked(inner, cache) if inner else ()
        case "url":
            yield FilePart(filename=block.title, url=_url(source, where), cache=cache)
        case "file":
            yield FilePart(file_id=source.file_id, filename=block.title, cache=cache)
        case _:
            yield FilePart(filename=block.title, data_url=_url(source, where), cache=cache)


def _titled(block: WireBlock, text: str | None) -> str:
    return "\n\n".join(piece for piece in (block.title, block.context, text) if piece)


def _search_result(block: WireBlock) -> str:
    try:
        content = msgspec.convert(block.content, list[WireBlock] | None) or ()
    except msgspec.ValidationError:
        content = ()
    found = [one.text or "" for one in content]
    source = block.source if isinstance(block.source, str) else None
    return "\n\n".join(piece for piece in (block.title, source, *found) if piece)


def cache_of(wire: Mapping[str, object] | None) -> CacheMark | None:
    """Return the wish to cache that `cache_control` is; five minutes unless it says an hour."""
    if wire is None:
        return None
    return CacheMark(ttl="1h" if wire.get("ttl") == "1h" else "5m")


def marked(parts: tuple[Part, ...], mark: CacheMark | None) -> tuple[Part, ...]:
    """Return the parts, at least one, with the mark of the block around them on the last one."""
    last = parts[-1]
    if mark is None or not isinstance(last, TextPart | ImagePart | FilePart):
        return parts
    return (*parts[:-1], msgspec.structs.replace(last, cache=last.cache or mark))
