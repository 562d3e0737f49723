"""Google's Gemini over HTTP: `generateContent` whole and streamed, vectors, errors, and tokens.

    async with GeminiVendor() as vendor:
        vendor.says("hello")

It plays the Developer API and Vertex by the path it is asked on, and is as strict as they are about
what a conversation must look like. `token_uri` is its OAuth server, whose tokens are `tokens`.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise

from tests.fakes.upstream import SSE, Answer, Recorded
from tests.fakes.vendors.scenes import NAME, SceneVendor

USAGE = {"promptTokenCount": 20, "candidatesTokenCount": 8, "totalTokenCount": 30}
THOUGHTS = {"thoughtsTokenCount": 2}
SIGNATURE = "c2lnbmF0dXJlIG9mIGEgdGhvdWdodA=="
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
Call = tuple[str, Mapping[str, object]]
Part = Mapping[str, object]


class GeminiVendor(SceneVendor):
    """A host with any model; those named after generation 3 want their proofs of thought back."""

    @property
    def token_uri(self) -> str:
        """Where a service account asks for tokens."""
        return f"{self.base_url}/token"

    @property
    def asked(self) -> list[tuple[str, Mapping[str, str], str]]:
        """What came, as text: a token server is not asked in JSON."""
        return [
            (request.path.removeprefix(f"/{NAME}"), request.headers, request.body.decode())
            for request in self._upstream.requests
        ]

    def grants(self, token: str, expires_in: int = 3600) -> None:
        """Answer a request for a token."""
        self.script(
            _json({"access_token": token, "expires_in": expires_in, "token_type": "Bearer"})
        )

    def says(self, text: str) -> None:
        """Answer with a text, a word to a chunk."""
        self._plays([{"text": word} for word in _words(text)])

    def calls(self, *calls: Call) -> None:
        """Answer with tool calls, each whole in a chunk of its own, without ids; one is signed."""
        made: list[Part] = [
            {"functionCall": {"name": name, "args": dict(given)}} for name, given in calls
        ]
        self._plays([{**made[0], "thoughtSignature": SIGNATURE}, *made[1:]])

    def thinks(self, thought: str, text: str) -> None:
        """Answer with a thought, then a text whose proof comes at its end, on an empty text."""
        thoughts = [{"text": word, "thought": True} for word in _words(thought)]
        said = [{"text": word} for word in _words(text)]
        self._plays([*thoughts, *said, {"text": "", "thoughtSignature": SIGNATURE}], THOUGHTS)

    def embeds(self, n_dims: int) -> None:
        """Answer with vectors that begin with the number of their input."""

        def vectors(request: Recorded) -> Answer:
            method, asked = _method(request), request.json
            if method == "batchEmbedContents":
                rows = _rows(len(asked["requests"]), n_dims)
                return _json({"embeddings": [{"values": row} for row in rows]})
            if method == "embedContent":
                return _json({"embedding": {"values": _rows(1, n_dims)[0]}})
            counted = {"token_count": 3, "truncated": False}
            rows = _rows(len(asked["instances"]), n_dims)
            found = [{"embeddings": {"values": row, "statistics": counted}} for row in rows]
            return _json({"predictions": found})

        self.script(vectors)

    def fails(self, status: int, kind: str, details: Sequence[object] = ()) -> None:
        """Answer with an error whose text is `kind`, in a list where a stream was asked for."""

        def failure(request: Recorded) -> Answer:
            error: dict[str, object] = {
                "code": status,
                "message": kind,
                "status": STATUSES.get(status, "UNKNOWN"),
            }
            body = {"error": {**error, "details": list(details)} if details else error}
            return _json([body] if _method(request) == "streamGenerateContent" else body, status)

        self.script(failure)

    def breaks(self, text: str, status: int) -> None:
        """Begin an answer and end it with an error as Google writes them: over several lines."""
        error = {"error": {"code": status, "message": "broken", "status": STATUSES[status]}}
        pieces = (self._chunk([{"text": text}], {}), json.dumps([error], indent=2).encode())
        self.script(Answer(headers=SSE, pieces=pieces, framing="chunked"))

    def _plays(self, parts: Sequence[Part], counted: Mapping[str, int] | None = None) -> None:
        self.ticks += 1

        def answer(request: Recorded) -> Answer:
            refused = refusal(request)
            if refused is not None:
                error = {"code": 400, "message": refused, "status": "INVALID_ARGUMENT"}
                return _json({"error": error}, 400)
            usage = {**USAGE, **(counted or {})}
            model = _model(request)
            if _method(request) == "generateContent":
                return _json(self._body(parts, usage, model, finish="STOP"))
            *first, last = parts
            chunks = [
                self._chunk([part], {"promptTokenCount": 20, "totalTokenCount": 20}, model)
                for part in first
            ]
            pieces = (*chunks, self._chunk([last], usage, model, finish="STOP"))
            return Answer(headers=SSE, pieces=pieces, framing="chunked")

        self.script(answer)

    def _chunk(
        self,
        parts: Sequence[Part],
        usage: Mapping[str, int],
        model: str = "gemini",
        finish: str | None = None,
    ) -> bytes:
        body = self._body(parts, usage, model, finish=finish)
        return b"data: " + json.dumps(body).encode() + b"\r\n\r\n"

    def _body(
        self, parts: Sequence[Part], usage: Mapping[str, int], model: str, *, finish: str | None
    ) -> dict[str, object]:
        candidate: dict[str, object] = {
            "content": {"parts": list(parts), "role": "model"},
            "index": 0,
        }
        if finish is not None:
            candidate["finishReason"] = finish
        return {
            "candidates": [candidate],
            "usageMetadata": dict(usage),
            "modelVersion": model,
            "responseId": f"response-{self.ticks}",
        }


def refusal(request: Recorded) -> str | None:
    """Return why Google would refuse this conversation, None when it would not."""
    asked = request.json
    contents = asked.get("contents") or []
    if not contents:
        return "* GenerateContentRequest.contents: contents is not specified"
    if any(not content.get("parts") for content in contents):
        return "* GenerateContentRequest.contents: contents.parts must not be empty."
    if contents[0]["role"] != "user":
        return "Please ensure that the conversation begins with a user turn."
    for content, following in pairwise(contents):
        calls = _of(content, "functionCall")
        results = _of(following, "functionResponse")
        if calls and (len(results) != len(calls) or len(results) != len(following["parts"])):
            return (
                "Please ensure that the number of function response parts is equal to the number "
                "of function call parts of the function call turn."
            )
    if "-3" in _model(request):
        return _unsigned(contents)
    return None


def _unsigned(contents: Sequence[Mapping]) -> str | None:
    """Return the complaint about a turn of calls whose first is unsigned, in the current turn."""
    spoken = [at for at, content in enumerate(contents) if _of(content, "text", role="user")]
    for content in contents[spoken[-1] if spoken else 0 :]:
        calls = [part for part in content["parts"] if "functionCall" in part]
        if calls and not calls[0].get("thoughtSignature"):
            name = calls[0]["functionCall"]["name"]
            return f"Function call `{name}` is missing a `thought_signature`."
    return None


def _of(content: Mapping, kind: str, role: str | None = None) -> list[Mapping]:
    if role is not None and content["role"] != role:
        return []
    return [part for part in content["parts"] if kind in part]


def _method(request: Recorded) -> str:
    return request.path.partition("?")[0].rpartition(":")[2]


def _model(request: Recorded) -> str:
    return request.path.partition("?")[0].rpartition("/")[2].partition(":")[0]


def _rows(count: int, n_dims: int) -> list[list[float]]:
    return [[float(at)] + [0.5] * (n_dims - 1) for at in range(count)]


def _words(text: str) -> list[str]:
    return [f" {word}" if at else word for at, word in enumerate(text.split(" "))]


def _json(body: object, status: int = 200) -> Answer:
    return Answer(status=status, pieces=(json.dumps(body, indent=2).encode(),))
