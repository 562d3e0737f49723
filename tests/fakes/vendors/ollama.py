"""Ollama's native surface over HTTP: `/api/chat` whole and in lines, `/api/embed`; errors of both.

    async with OllamaVendor() as vendor:
        vendor.says("hello")

Its `/v1` is not played here: that is OpenAI's dialect.
"""

import json
from collections.abc import Mapping

from tests.fakes.upstream import Answer, Recorded
from tests.fakes.vendors.scenes import SceneVendor

STAMP = "2026-01-01T00:00:00.{:09d}Z"
LINES = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json; charset=utf-8"}


class OllamaVendor(SceneVendor):
    """A local server with any model."""

    def says(self, text: str, **counted: int) -> None:
        """Answer with a text, a word to a line; `counted` are usage fields."""
        words = [f" {word}" if at else word for at, word in enumerate(text.split(" "))]
        self._chat([{"content": word} for word in words], {"content": text}, counted=counted)

    def calls(self, *calls: tuple[str, Mapping[str, object]]) -> None:
        """Answer with tool calls, each whole on a line of its own, without ids."""
        made = [{"function": {"name": name, "arguments": dict(given)}} for name, given in calls]
        lines = [{"content": "", "tool_calls": [call]} for call in made]
        self._chat(lines, {"content": "", "tool_calls": made})

    def thinks(self, thought: str, text: str) -> None:
        """Answer with a thought, then a text."""
        lines = [{"content": "", "thinking": thought}, {"content": text}]
        self._chat(lines, {"content": text, "thinking": thought})

    def embeds(self, n_dims: int) -> None:
        """Answer with vectors that begin with the number of their input."""

        def vectors(request: Recorded) -> Answer:
            given = request.json["input"]
            texts = [given] if isinstance(given, str) else given
            rows = [[float(at)] + [0.5] * (n_dims - 1) for at, _ in enumerate(texts)]
            counted = {"prompt_eval_count": 3 * len(texts)}
            return _json({"model": request.json["model"], "embeddings": rows, **counted})

        self.script(vectors)

    def fails(self, status: int, kind: str) -> None:
        """Answer with an error whose text is `kind`."""
        self.script(_json({"error": kind}, status))

    def breaks(self, text: str, error: str) -> None:
        """Begin an answer and end it with an error line."""
        pieces = (self._line({"content": text}), _bytes({"error": error}))
        self.script(Answer(headers=LINES, pieces=pieces, framing="chunked", gap_s=0.05))

    def _chat(
        self,
        lines: list[dict[str, object]],
        whole: dict[str, object],
        reason: str = "stop",
        counted: Mapping[str, int] | None = None,
    ) -> None:
        used = counted or {"prompt_eval_count": 7, "eval_count": 3}
        end = {"done": True, "done_reason": reason, **used}

        def answer(request: Recorded) -> Answer:
            if request.json["stream"]:
                pieces = [*map(self._line, lines), self._line({"content": ""}, **end)]
                return Answer(headers=LINES, pieces=tuple(pieces), framing="chunked")
            return Answer(headers=JSON, pieces=(self._line(whole, **end),))

        self.script(answer)

    def _line(self, message: Mapping[str, object], **more: object) -> bytes:
        self.ticks += 1
        return _bytes(
            {
                "model": "llama3",
                "created_at": STAMP.format(self.ticks),
                "message": {"role": "assistant", **message},
                "done": False,
                **more,
            }
        )


def _json(body: object, status: int = 200) -> Answer:
    return Answer(status=status, headers=JSON, pieces=(_bytes(body),))


def _bytes(body: object) -> bytes:
    return json.dumps(body).encode() + b"\n"
