"""OpenAI's surface over HTTP: chat, responses, embeddings; whole, streamed, and its errors.

    async with OpenAIVendor() as vendor:
        vendor.says("hello")

What imitates it is the same on the wire, so it plays those vendors too. `base_url` is the host's
root; its paths stand below `/v1`.
"""

import base64
import json
import struct
from collections.abc import Mapping, Sequence

from tests.fakes.upstream import DONE, Answer, Recorded, chunk, completion, sse
from tests.fakes.vendors.responses_wire import response_events, response_object
from tests.fakes.vendors.scenes import SceneVendor

USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 10,
    "total_tokens": 30,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
Call = tuple[str, Mapping[str, object]]


class OpenAIVendor(SceneVendor):
    """A vendor with every endpoint that the scenes need.

    Those that `always_count` tell the usage of streams without being asked, with the finish.
    """

    def __init__(self, *, always_count: bool = False) -> None:
        super().__init__()
        self._always_count = always_count

    def says(self, text: str) -> None:
        """Answer with a text, a word to a chunk."""
        self._plays(text=text)

    def calls(self, *calls: Call) -> None:
        """Answer with tool calls, their arguments in two pieces."""
        self._plays(calls=calls)

    def thinks(self, thought: str, text: str) -> None:
        """Answer with a thought, then a text."""
        self._plays(text=text, thought=thought)

    def embeds(self, n_dims: int) -> None:
        """Answer with vectors that begin with the number of their input, in the form asked for."""

        def vectors(request: Recorded) -> Answer:
            asked = request.json
            given = asked["input"]
            count = 1 if isinstance(given, str) else len(given)
            rows = [
                {
                    "object": "embedding",
                    "index": at,
                    "embedding": _vector(at, n_dims, asked.get("encoding_format")),
                }
                for at in range(count)
            ]
            usage = {"prompt_tokens": 3 * count, "total_tokens": 3 * count}
            return _json({"object": "list", "data": rows, "model": asked["model"], "usage": usage})

        self.script(vectors)

    def fails(self, status: int, kind: str) -> None:
        """Answer with an error of that type."""
        error = {"message": f"It is {kind}.", "type": kind, "param": None, "code": None}
        self.script(_json({"error": error}, status))

    def _plays(self, *, text: str = "", thought: str = "", calls: Sequence[Call] = ()) -> None:
        self.ticks += 1
        made = [
            {
                "id": f"call_{self.ticks}_{at}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for at, (name, arguments) in enumerate(calls)
        ]

        def answer(request: Recorded) -> Answer:
            asked = request.json
            if request.path.partition("?")[0].endswith("/responses"):
                body = response_object(asked, text=text, thought=thought, calls=made)
                return sse(response_events(body)) if asked.get("stream") else _json(body)
            if asked.get("stream"):
                chunks = _chunks(asked, text, thought, made, always_count=self._always_count)
                return sse(chunks)
            return _json(_completion(asked, text, thought, made))

        self.script(answer)


def _completion(asked: Mapping, text: str, thought: str, calls: list[dict]) -> dict:
    body = completion(text, model=asked["model"], usage=USAGE)
    (choice,) = body["choices"]  # type: ignore[misc]
    if thought:
        choice["message"]["reasoning_content"] = thought
    if calls:
        choice["message"] |= {"content": None, "tool_calls": calls}
        choice["finish_reason"] = "tool_calls"
    return body


def _chunks(
    asked: Mapping, text: str, thought: str, calls: list[dict], *, always_count: bool
) -> list[bytes]:
    named = {"model": asked["model"]}
    deltas: list[dict] = [{"role": "assistant", "content": None if calls else ""}]
    deltas += [{"reasoning_content": word} for word in _words(thought)]
    deltas += [{"content": word} for word in _words(text)]
    for at, call in enumerate(calls):
        given = call["function"]["arguments"]
        opening = {**call, "index": at, "function": {**call["function"], "arguments": ""}}
        deltas += [
            {"tool_calls": [piece]}
            for piece in (
                opening,
                {"index": at, "function": {"arguments": given[:5]}},
                {"index": at, "function": {"arguments": given[5:]}},
            )
        ]
    events = [chunk(delta, **named) for delta in deltas]
    finish = "tool_calls" if calls else "stop"
    if always_count:
        return [*events, chunk({}, finish, usage=USAGE, **named), DONE]
    events.append(chunk({}, finish, **named))
    if (asked.get("stream_options") or {}).get("include_usage"):
        events.append(chunk(usage=USAGE, **named))
    return [*events, DONE]


def _words(text: str) -> list[str]:
    return [f" {word}" if at else word for at, word in enumerate(text.split(" "))] if text else []


def _vector(at: int, n_dims: int, form: str | None) -> object:
    numbers = [float(at)] + [0.5] * (n_dims - 1)
    if "base64" != form:
        return numbers
    return base64.b64encode(struct.pack(f"<{n_dims}f", *numbers)).decode()


def _json(body: object, status: int = 200) -> Answer:
    return Answer(status=status, pieces=(json.dumps(body).encode(),))
