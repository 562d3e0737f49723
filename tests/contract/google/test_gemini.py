"""A conversation with the strict fake over a real socket: what it says comes back, and is taken."""

import json

import msgspec
import pytest

from shared.attempts.stream import UpstreamStream
from shared.attempts.whole import call_whole
from shared.clock import SystemClock
from shared.config.model import ProviderConfig, Timeouts
from shared.errors import FailureKind, UpstreamError
from shared.providers.http1_transport import Http1Transport
from shared.providers.registry import adapter_for
from shared.providers.request import InferenceRequest, RequestHead
from shared.providers.target import Target
from tests.fakes.upstream import Recorded
from tests.fakes.vendors.gemini import SIGNATURE, GeminiVendor, refusal

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
QUESTION = {"role": "user", "content": "Paris?"}
TIMEOUTS = Timeouts()


@pytest.fixture
async def vendor():
    async with GeminiVendor() as running:
        yield running


@pytest.fixture(params=["developer", "vertex"])
def provider(request, vendor):
    fields = {"kind": "gemini", "base_url": vendor.base_url}
    if request.param == "vertex":
        fields |= {"project": "acme", "location": "global"}
    return msgspec.convert(fields, ProviderConfig)


class Caller:
    """Asks like a caller in OpenAI's dialect, whole or by a stream."""

    def __init__(self, provider, transport, *, stream):
        self.provider = provider
        self.transport = transport
        self.stream = stream
        self.exchange = None

    async def ask(self, endpoint="/v1/chat/completions", model="gemini-3-flash", **fields):
        """Return the answer's body, of a stream the message that it folds into."""
        raw = json.dumps({"model": "m", **fields, "stream": self.stream}).encode()
        request = InferenceRequest(
            endpoint=endpoint,
            dialect="openai",
            raw=raw,
            head=msgspec.json.decode(raw, type=RequestHead),
        )
        target = Target(provider="p", model=model)
        exchange = adapter_for("gemini").exchange(self.provider, "key", request, target)
        self.exchange = exchange
        if self.stream:
            return await self._streamed(exchange)
        reply = await call_whole(
            exchange, self.transport, timeouts=TIMEOUTS, limit_s=10.0, clock=SystemClock()
        )
        return json.loads(reply.body)

    async def _streamed(self, exchange):
        upstream = UpstreamStream(exchange, self.transport, TIMEOUTS, SystemClock())
        await upstream.open(10.0)
        try:
            out = b"".join([piece async for piece in upstream])
        finally:
            await upstream.aclose()
        chunks = [json.loads(event[6:]) for event in out.split(b"\n\n") if event]
        return {"choices": [{"message": joined(chunks), "finish_reason": finish(chunks)}]}


def joined(chunks):
    """The message of a stream, as an SDK's helper joins it."""
    message = {"role": "assistant", "content": ""}
    for chunk in chunks:
        delta = chunk["choices"][0]["delta"]
        message["content"] += delta.get("content") or ""
        for name in ("tool_calls", "reasoning_details"):
            message.setdefault(name, []).extend(delta.get(name) or ())
        if "reasoning_content" in delta:
            thought = message.get("reasoning_content", "")
            message["reasoning_content"] = thought + delta["reasoning_content"]
    return {name: its for name, its in message.items() if its != []}


def finish(chunks):
    (reason,) = filter(None, (chunk["choices"][0]["finish_reason"] for chunk in chunks))
    return reason


@pytest.fixture
async def transport():
    own = Http1Transport(SystemClock())
    yield own
    await own.aclose()


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def caller(request, provider, transport):
    return Caller(provider, transport, stream=request.param)


@pytest.fixture
def asker(provider, transport):
    return Caller(provider, transport, stream=False)


async def test_a_text(vendor, caller):
    vendor.says("Hello there")

    (choice,) = (await caller.ask(messages=[QUESTION]))["choices"]

    assert ("Hello there", "stop") == (choice["message"]["content"], choice["finish_reason"])


@pytest.mark.behaviour(72, 77, 78, 87, 95, 98)
async def test_calls_go_there_and_back_by_a_client_that_only_echoes(vendor, caller):
    """The ids are made up, the proof is Google's own, and Google takes its turn again."""
    vendor.calls(("look", {"at": "Paris"}), ("look", {"at": "Rome"}))
    vendor.says("Sunny")

    (choice,) = (await caller.ask(messages=[QUESTION], tools=[TOOL]))["choices"]
    made = choice["message"]["tool_calls"]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in made]
    again = await caller.ask(messages=[QUESTION, choice["message"], *results], tools=[TOOL])

    assert "tool_calls" == choice["finish_reason"]
    assert ["Paris", "Rome"] == [json.loads(c["function"]["arguments"])["at"] for c in made]
    assert "Sunny" == again["choices"][0]["message"]["content"]
    sent = vendor.requests[-1][2]["contents"][1]["parts"]
    assert [SIGNATURE, None] == [part.get("thoughtSignature") for part in sent]


@pytest.mark.behaviour(86, 87)
async def test_a_thought_is_told_apart_and_its_proof_comes_back(vendor, caller):
    vendor.thinks("Let me see", "Hello")
    vendor.says("Again")

    (choice,) = (await caller.ask(messages=[QUESTION], reasoning_effort="low"))["choices"]
    await caller.ask(messages=[QUESTION, choice["message"], QUESTION])

    assert ("Let me see", "Hello") == (
        choice["message"]["reasoning_content"],
        choice["message"]["content"],
    )
    sent = vendor.requests[-1][2]["contents"][1]["parts"]
    assert [{"text": "Hello", "thoughtSignature": SIGNATURE}] == sent


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.REJECTED),
        (403, FailureKind.CREDENTIAL),
        (429, FailureKind.RATE_LIMITED),
        (503, FailureKind.OVERLOADED),
    ],
)
async def test_failures(vendor, caller, status, kind):
    vendor.fails(status, "It is so.")

    with pytest.raises(UpstreamError, match="It is so") as caught:
        await caller.ask(messages=[QUESTION])

    assert kind == caught.value.kind


@pytest.mark.behaviour(121)
async def test_a_stream_that_breaks_says_so(vendor, provider, transport):
    vendor.breaks("Hel", 500)

    with pytest.raises(UpstreamError, match="broken"):
        await Caller(provider, transport, stream=True).ask(messages=[QUESTION])


@pytest.mark.parametrize("model", ["gemini-embedding-001", "gemini-embedding-2"])
@pytest.mark.behaviour(185)
async def test_vectors(vendor, asker, model):
    vendor.embeds(4)

    answer = await asker.ask("/v1/embeddings", model, input=["a"], dimensions=4)

    assert [[0.0, 0.5, 0.5, 0.5]] == [row["embedding"] for row in answer["data"]]


def test_the_fake_is_as_strict_as_google():
    """Else the tests above would show nothing."""

    def refused(*contents):
        return refusal(
            Recorded(
                provider="up",
                method="POST",
                path="/v1beta/models/gemini-3-flash:generateContent",
                headers={},
                body=json.dumps({"contents": list(contents)}).encode(),
                connection=0,
            )
        )

    said = {"role": "user", "parts": [{"text": "x"}]}
    call = {"functionCall": {"name": "f", "args": {}}}
    result = {"functionResponse": {"name": "f", "response": {}}}
    turn = {"role": "model", "parts": [{**call, "thoughtSignature": "s"}]}
    results = {"role": "user", "parts": [result]}

    assert refused(said, turn, results) is None
    assert all([
        refused(),
        refused(turn),
        refused({"role": "user", "parts": []}),
        refused(said, {"role": "model", "parts": [call]}, results),
        refused(said, turn, {"role": "user", "parts": [result, {"text": "y"}]}),
        refused(said, turn, {"role": "user", "parts": [result, result]}),
    ])  # fmt: skip
