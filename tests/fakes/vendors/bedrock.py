"""Bedrock's runtime over HTTP: Converse whole and as an event stream, InvokeModel for vectors.

    async with BedrockVendor() as vendor:
        vendor.says("hello")

It refuses what Bedrock refuses: a body that the service's own model does not know, a conversation
out of form, and, where `secret_key` is set, a wrong signature.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from urllib.parse import unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.session import Session
from botocore.validate import ParamValidator

from tests.fakes.aws_frames import event, exception
from tests.fakes.upstream import Answer, Recorded
from tests.fakes.vendors.scenes import SceneVendor

USAGE = {
    "inputTokens": 14,
    "outputTokens": 10,
    "totalTokens": 30,
    "cacheReadInputTokens": 4,
    "cacheWriteInputTokens": 2,
}
SIGNATURE = "EqQBCkYIBxgCKkA8AZ4noDfV5VcOJe=="
REDACTED = "EtgBCkYIBxgCKkDQfGkwzflEJP5asG3oQ=="
JSON = {"content-type": "application/json", "x-amzn-requestid": "req-1"}
FRAMES = {"content-type": "application/vnd.amazon.eventstream", "x-amzn-requestid": "req-1"}
STATUSES = {
    "ThrottlingException": 429,
    "ValidationException": 400,
    "ServiceUnavailableException": 503,
    "InternalServerException": 500,
    "AccessDeniedException": 403,
    "ResourceNotFoundException": 404,
}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_DOCUMENT = re.compile(r"(?:[A-Za-z0-9()\[\]-]+ )*[A-Za-z0-9()\[\]-]+")
_PIECE = 5

Call = tuple[str, Mapping[str, object]]
Block = dict[str, object]


class BedrockVendor(SceneVendor):
    """A region of Bedrock with any model; `secret_key` is what signatures must be made with."""

    def __init__(self, *, secret_key: str | None = None) -> None:
        super().__init__()
        self._secret_key = secret_key

    def says(self, text: str) -> None:
        """Answer with a text, a word to a delta."""
        self._plays([{"text": text}])

    def calls(self, *calls: Call) -> None:
        """Answer with tool calls, their arguments in pieces."""
        self.ticks += 1
        made: list[Block] = [
            {"toolUse": {"toolUseId": f"tooluse_{self.ticks}_{at}", "name": name, "input": given}}
            for at, (name, given) in enumerate(calls)
        ]
        self._plays(made, "tool_use")

    def thinks(self, thought: str, text: str) -> None:
        """Answer with a signed thought, one that is kept from sight, then a text."""
        signed = {"reasoningText": {"text": thought, "signature": SIGNATURE}}
        hidden = {"redactedContent": b64encode(REDACTED.encode()).decode()}
        thoughts = [{"reasoningContent": signed}, {"reasoningContent": hidden}]
        self._plays([*thoughts, {"text": text}])

    def answers(self, *blocks: Block, stop_reason: str = "end_turn") -> None:
        """Answer with any content blocks."""
        self._plays(blocks, stop_reason)

    def embeds(self, n_dims: int) -> None:
        """Answer with vectors that begin with the number of their input."""

        def vectors(request: Recorded) -> Answer:
            asked = request.json
            counted = {**JSON, "x-amzn-bedrock-input-token-count": "3"}
            if "inputText" in asked:
                vector = [float(len(asked["inputText"]))] + [0.5] * (n_dims - 1)
                return _json({"embedding": vector, "inputTextTokenCount": 3})
            rows = [[float(at)] + [0.5] * (n_dims - 1) for at, _ in enumerate(asked["texts"])]
            return _json({"embeddings": {"float": rows}}, headers=counted)

        self.script(vectors)

    def fails(self, status: int, kind: str) -> None:
        """Answer with an exception of that name."""
        self.script(_failure(kind, f"It is {kind}.", status))

    def breaks(self, kind: str, *, after: str = "") -> None:
        """Answer a stream with an exception, after this much text."""
        shown = [event("messageStart", {"role": "assistant"})]
        if after:
            shown.append(_delta(0, {"text": after}))
        broken = exception(kind, {"message": f"It is {kind}."})
        self.script(Answer(headers=FRAMES, pieces=(*shown, broken), framing="chunked", gap_s=0.02))

    def _plays(self, blocks: Sequence[Block], stop_reason: str = "end_turn") -> None:
        def answer(request: Recorded) -> Answer:
            refused = self._refusal(request)
            if refused is not None:
                return refused
            if request.path.endswith("/converse-stream"):
                pieces = tuple(frames(blocks, stop_reason))
                return Answer(headers=FRAMES, pieces=pieces, framing="chunked")
            message = {"role": "assistant", "content": list(blocks)}
            return _json(
                {
                    "output": {"message": message},
                    "stopReason": stop_reason,
                    "usage": USAGE,
                    "metrics": {"latencyMs": 9},
                }
            )

        self.script(answer)

    def _refusal(self, request: Recorded) -> Answer | None:
        if self._secret_key is not None and not _well_signed(request, self._secret_key):
            return _failure("InvalidSignatureException", "The signature does not match.", 403)
        why = refusal(unquote(request.path.split("/")[-2]), request.json)
        return None if why is None else _failure("ValidationException", why, 400)


def frames(blocks: Sequence[Block], stop_reason: str = "end_turn") -> Iterator[bytes]:
    """The events of a whole answer."""
    yield event("messageStart", {"role": "assistant"})
    for index, block in enumerate(blocks):
        if "toolUse" in block:
            called = {**block["toolUse"]}
            given = called.pop("input")
            start = {"contentBlockIndex": index, "start": {"toolUse": called}}
            yield event("contentBlockStart", start)
            whole = json.dumps(given, ensure_ascii=False, separators=(",", ":")) if given else ""
            for at in range(0, len(whole), _PIECE):
                yield _delta(index, {"toolUse": {"input": whole[at : at + _PIECE]}})
        elif "reasoningContent" in block:
            yield from (_delta(index, {"reasoningContent": one}) for one in _thought(block))
        else:
            for word in re.findall(r"\S+\s*", str(block["text"])):
                yield _delta(index, {"text": word})
        yield event("contentBlockStop", {"contentBlockIndex": index})
    yield event("messageStop", {"stopReason": stop_reason})
    yield event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 9}})


def refusal(model: str, asked: Mapping) -> str | None:
    """Return why Bedrock would refuse this question, None if it would not."""
    report = ParamValidator().validate({"modelId": model, **asked}, _shape())
    if report.has_errors():
        return report.generate_report()
    turns = [(turn["role"], turn["content"]) for turn in asked["messages"]]
    roles = [role for role, _ in turns]
    if roles != ["user" if at % 2 == 0 else "assistant" for at, _ in enumerate(roles)]:
        return "A conversation must alternate between user and assistant roles."
    used = any("toolUse" in block for _, content in turns for block in content)
    if used and "toolConfig" not in asked:
        return "The toolConfig field must be defined when using toolUse and toolResult."
    return _wrong_blocks(turns) or _wrong_tools(asked.get("toolConfig", {}))


def _wrong_blocks(turns: Sequence[tuple[str, list[Block]]]) -> str | None:
    calls: list[object] = []
    documents: list[str] = []
    for role, content in turns:
        answered = [one["toolResult"]["toolUseId"] for one in content if "toolResult" in one]
        if "user" == role and answered != calls:
            return f"Expected toolResult blocks for {calls}, got {answered}."
        calls = [one["toolUse"]["toolUseId"] for one in content if "toolUse" in one]
        if not all(_ID.fullmatch(str(one)) for one in calls):
            return "toolUseId does not match [a-zA-Z0-9_.:-]+"
        if not all(_NAME.fullmatch(one["toolUse"]["name"]) for one in content if "toolUse" in one):
            return "A tool's name does not match [a-zA-Z0-9_-]+"
        if not content or any(not str(one["text"]).strip() for one in content if "text" in one):
            return "The text field in the ContentBlock object is blank."
        found = [one["document"]["name"] for one in content if "document" in one]
        if found and not any("text" in one for one in content):
            return "A text block must be included when using documents."
        documents += found
    if len(documents) > len(set(documents)):
        return "Document names must be unique."
    if not all(_DOCUMENT.fullmatch(name) for name in documents):
        return "The document file name contains characters that are not allowed."
    return "a call is not answered" if calls else None


def _wrong_tools(config: Mapping) -> str | None:
    names = [one["toolSpec"]["name"] for one in config.get("tools", ()) if "toolSpec" in one]
    if len(names) > len(set(names)) or not all(map(_NAME.fullmatch, names)):
        return "Tool names must be unique and match [a-zA-Z0-9_-]+"
    for one in config.get("tools", ()):
        schema = one.get("toolSpec", {}).get("inputSchema", {"json": {"type": "object"}})
        if "object" != schema["json"].get("type"):
            return "The value at toolSpec.inputSchema.json.type must be object."
    return None


@cache
def _shape() -> object:
    return Session().get_service_model("bedrock-runtime").shape_for("ConverseRequest")


def _well_signed(request: Recorded, secret_key: str) -> bool:
    """Whether the signature fits what arrived, path and all."""
    told = dict(re.findall(r"(\w+)=([^,\s]+)", request.headers.get("authorization", "")))
    if "Credential" not in told:
        return False
    access_key, _, region, service, _ = told["Credential"].split("/")
    kept = {name: request.headers[name] for name in told["SignedHeaders"].split(";")}
    again = AWSRequest(
        method=request.method,
        url=f"http://{request.headers['host']}{request.path}",
        headers=kept,
        data=request.body,
    )
    again.context["timestamp"] = request.headers["x-amz-date"]
    keys = SimpleNamespace(access_key=access_key, secret_key=secret_key, token=None)
    signer = SigV4Auth(keys, service, region)
    text = signer.string_to_sign(again, signer.canonical_request(again))
    return "bedrock" == service and told["Signature"] == signer.signature(text, again)


def _thought(block: Block) -> list[Block]:
    told = block["reasoningContent"]
    if "redactedContent" in told:
        return [told]
    said = told["reasoningText"]
    words = [{"text": word} for word in re.findall(r"\S+\s*", said["text"])]
    return [*words, {"signature": said["signature"]}] if "signature" in said else words


def _delta(index: int, delta: Block) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})


def _failure(name: str, message: str, status: int) -> Answer:
    named = {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
    return _json({"message": message}, status, {**JSON, **named})


def _json(body: object, status: int = 200, headers: Mapping[str, str] = JSON) -> Answer:
    return Answer(status=status, headers=headers, pieces=(json.dumps(body).encode(),))
