"""A stream's events as the text they make: what is logged of a streamed answer. Pure.

It reads whatever it is given, whole or cut, of any dialect we serve; what it does not know is left
out. Answers that callers get are never made of this.
"""

from collections.abc import Iterable, Iterator

import msgspec

_KEPT = ("usage", "error")


def folded(pieces: Iterable[bytes]) -> dict[str, object]:
    """Return the texts of a stream by where they belong, its usage and its error."""
    texts: dict[str, list[str]] = {}
    kept: dict[str, object] = {}
    for event in _events(pieces):
        for place, text in _texts(event):
            texts.setdefault(place, []).append(text)
        kept.update((name, event[name]) for name in _KEPT if event.get(name) is not None)
    return {**{place: "".join(parts) for place, parts in texts.items()}, **kept}


def _events(pieces: Iterable[bytes]) -> Iterator[dict[str, object]]:
    for line in b"".join(pieces).splitlines():
        if not line.startswith(b"data:"):
            continue
        try:
            event = msgspec.json.decode(line[5:])
        except (msgspec.DecodeError, RecursionError):  # [DONE], or a line that was cut
            continue
        if isinstance(event, dict):
            yield event


def _texts(event: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Yield each piece of text with its place, such as `choices.0.content`."""
    for choice in _listed(event.get("choices")):
        place = f"choices.{choice.get('index', 0)}"
        if isinstance(choice.get("text"), str):
            yield f"{place}.text", str(choice["text"])
        yield from _strings(place, choice.get("delta"))
    kind, delta = str(event.get("type", "")), event.get("delta")
    if isinstance(delta, str):  # OpenAI's responses
        what = kind.removeprefix("response.").removesuffix(".delta")
        yield f"output.{event.get('output_index', 0)}.{what}", delta
    elif kind == "content_block_delta":  # Anthropic's messages
        yield from _strings(f"content.{event.get('index', 0)}", delta)


def _strings(place: str, value: object) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        if isinstance(inner, str) and name not in {"role", "type", "id"}:
            yield f"{place}.{name}", inner
        elif isinstance(inner, dict):
            yield from _strings(f"{place}.{name}", inner)
        else:
            for number, one in enumerate(_listed(inner)):
                yield from _strings(f"{place}.{name}.{one.get('index', number)}", one)


def _listed(value: object) -> list[dict[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
