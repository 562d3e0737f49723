"""Cohere's native surface over HTTP: chat whole and as events, vectors, ranking, errors.

async with CohereVendor() as vendor:
    vendor.says("hello")
"""

import json
from collections.abc import Mapping, Sequence

from tests.fakes.upstream import Answer, Recorded, sse
from tests.fakes.vendors.scenes import SceneVendor

USAGE = {
    "billed_units": {"input_tokens": 4, "output_tokens": 2},
    "tokens": {"input_tokens": 70, "output_tokens": 3},
}
Call = tuple[str, Mapping[str, object]]


class CohereVendor(SceneVendor):
    """The vendor with any model."""

    def says(self, text: str) -> None:
        """Answer with a text, a word to an event."""
        self._plays(text=text)

    def calls(self, *calls: Call) -> None:
        """Answer with a plan and tool calls, their arguments in two pieces."""
        self._plays(calls=calls)

    def thinks(self, thought: str, text: str) -> None:
        """Answer with a thought, then a text."""
        self._plays(text=text, thought=thought)

    def embeds(self, n_dims: int) -> None:
        """Answer with vectors that begin with the number in their text, such as `text 7`."""

        def vectors(request: Recorded) -> Answer:
            texts = request.json["texts"]
            rows = [[float(text.split()[-1])] + [0.5] * (n_dims - 1) for text in texts]
            meta = {"billed_units": {"input_tokens": 3 * len(texts)}}
            return _json({"id": "e", "embeddings": {"float": rows}, "texts": texts, "meta": meta})

        self.script(vectors)

    def ranks(self, *indices: int) -> None:
        """Answer with a ranking."""
        results = [
            {"index": index, "relevance_score": 0.9 - at / 10} for at, index in enumerate(indices)
        ]
        meta = {"billed_units": {"search_units": 1}}
        self.script(_json({"id": "r", "results": results, "meta": meta}))

    def fails(self, status: int, kind: str) -> None:
        """Answer with an error whose text is `kind`."""
        self.script(_json({"id": "x", "message": kind}, status))

    def _plays(self, *, text: str = "", thought: str = "", calls: Sequence[Call] = ()) -> None:
        self.ticks += 1
        own_id = f"c{self.ticks}"
        made = [
            {
                "id": f"{name}_{self.ticks}{at}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(given)},
            }
            for at, (name, given) in enumerate(calls)
        ]

        def answer(request: Recorded) -> Answer:
            if request.json["stream"]:
                return sse(_events(own_id, text, thought, made))
            return _json(_whole(own_id, text, thought, made))

        self.script(answer)


def _whole(own_id: str, text: str, thought: str, calls: list[dict]) -> dict:
    content = [{"type": "thinking", "thinking": thought}] if thought else []
    message: dict = {"role": "assistant"}
    if calls:
        message |= {"tool_plan": "I will look.", "tool_calls": calls}
    else:
        message["content"] = [*content, {"type": "text", "text": text}]
    finish = "TOOL_CALL" if calls else "COMPLETE"
    return {"id": own_id, "finish_reason": finish, "message": message, "usage": USAGE}


def _events(own_id: str, text: str, thought: str, calls: list[dict]) -> list[bytes]:
    events = [_event("message-start", id=own_id, delta={"message": {"role": "assistant"}})]
    for at, (kind, said) in enumerate((("thinking", thought), ("text", text))):
        if not said:
            continue
        opening = {"message": {"content": {"type": kind, kind: ""}}}
        events.append(_event("content-start", index=at, delta=opening))
        for number, word in enumerate(said.split(" ")):
            piece = {"message": {"content": {kind: f" {word}" if number else word}}}
            events.append(_event("content-delta", index=at, delta=piece))
        events.append(_event("content-end", index=at))
    if calls:
        plan = {"message": {"tool_plan": "I will look."}}
        events.append(_event("tool-plan-delta", delta=plan))
    for at, call in enumerate(calls):
        given = call["function"]["arguments"]
        opening = {**call, "function": {**call["function"], "arguments": ""}}
        events.append(_call_event("start", at, opening))
        events += [
            _call_event("delta", at, {"function": {"arguments": piece}})
            for piece in (given[:3], given[3:])
        ]
        events.append(_event("tool-call-end", index=at))
    finish = "TOOL_CALL" if calls else "COMPLETE"
    return [*events, _event("message-end", delta={"finish_reason": finish, "usage": USAGE})]


def _call_event(kind: str, at: int, call: Mapping[str, object]) -> bytes:
    return _event(f"tool-call-{kind}", index=at, delta={"message": {"tool_calls": call}})


def _event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def _json(body: object, status: int = 200) -> Answer:
    headers = {"content-type": "application/json"}
    return Answer(status=status, headers=headers, pieces=(json.dumps(body).encode(),))
