"""Calls that wait for something first: signatures that fit the wire, and files at URLs."""

import json
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest

from shared.clock import Deadline, SystemClock
from shared.config.conduct import FilesConfig
from shared.config.load import load_config
from shared.errors import ChainFailed, InvalidRequest
from shared.gateway.admission import Admission
from shared.gateway.answer import CallContext
from shared.gateway.catalog import Catalog
from shared.gateway.files import GuardedFetcher
from shared.gateway.parse import parse_request
from shared.gateway.runner import Kit
from shared.gateway.service import Gateway
from shared.health.book import HealthBook
from shared.identity import Principal
from shared.ids import new_id
from shared.ledger.books import Outcome
from shared.limits.local import LocalLimiter
from shared.limits.scopes import ScopeBook
from shared.providers.http1_transport import Http1Transport
from shared.providers.mock import MockTransport
from shared.providers.registry import kinds
from shared.providers.wiring import RoutingTransport
from tests.fakes.upstream import Answer, running_upstream
from tests.fakes.vendors.bedrock import BedrockVendor

pytestmark = pytest.mark.anyio

SECRET = "wJalrXUtnFEMI"
PNG = b"\x89PNG\r\n\x1a\n1234"
NOVA = "us.amazon.nova-pro-v1:0"
ARN = f"arn:aws:bedrock:us-east-1:1:inference-profile/{NOVA}"
CONFIG = """
providers:
  bedrock: {{kind: bedrock, region: us-east-1, base_url: "{base_url}"}}
  lacking: {{kind: bedrock, region: us-east-1, base_url: "{base_url}", profile: no-such-profile}}
  mock: {{kind: mock}}
defaults: {{retry: {{max_attempts: 1}}}}
routes:
- {{model: nova, targets: [{{provider: bedrock, model: "{nova}"}}]}}
- {{model: arn, targets: [{{provider: bedrock, model: "{arn}"}}]}}
- {{model: titan, targets: [{{provider: bedrock, model: "amazon.titan-embed-text-v2:0"}}]}}
- model: helped
  targets: [{{provider: lacking, model: "{nova}"}}, {{provider: mock, model: m}}]
- model: pictures
  targets: [{{provider: bedrock, model: "{nova}"}}, {{provider: mock, model: m}}]
"""


class Kept:
    def __init__(self) -> None:
        self.charges = []

    async def open(self, opening) -> None:
        pass

    def close(self, charge) -> None:
        self.charges.append(charge)


class Purse:
    async def hold(self, principal, amount_nanousd, *, deadline, asked):
        return None


class Line:
    """A gateway before a fake region of Bedrock and a server of files."""

    def __init__(self, vendor, files, transport, clock) -> None:
        text = CONFIG.format(base_url=vendor.base_url, nova=NOVA, arn=ARN)
        config = load_config(text, {}, kinds()).config
        self.vendor = vendor
        self.files = files
        self.books = Kept()
        self.clock = clock
        allowed = FilesConfig(allow_networks=("127.0.0.0/8",), timeout_s=5.0)
        self.kit = Kit(
            catalog=Catalog(config, clock.now()),
            transport=transport,
            clock=clock,
            ids=new_id,
            admission=Admission(LocalLimiter(clock), ScopeBook(config), clock, new_id),
            health=HealthBook(clock),
            fetcher=GuardedFetcher(allowed, clock),
        )

    def call(self, way, model, endpoint="/v1/chat/completions", **body):
        raw = json.dumps({"model": model, **body}).encode()
        gateway = Gateway(self.kit, lambda: 0.0)
        return getattr(gateway, way)(
            Principal(tenant_id="t", key_id="k", key_name="n"),
            parse_request(endpoint, raw),
            deadline=Deadline.after(30, self.clock),
            books=self.books,
            holds=Purse(),
            context=CallContext(request_id="req_1"),
        )

    async def say(self, *content, model="pictures"):
        answer = await self.call("complete", model, messages=[{"role": "user", "content": content}])
        return answer, json.loads(answer.body)

    def picture(self, path="file"):
        url = f"http://127.0.0.1:{self.files.port}/{path}/a.png?sig=1"
        return {"type": "image_url", "image_url": {"url": url}}


@asynccontextmanager
async def opened(monkeypatch, secret_key=SECRET):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        vendor = await stack.enter_async_context(BedrockVendor(secret_key=secret_key))
        files = await stack.enter_async_context(running_upstream())
        transport = Http1Transport(clock)
        stack.push_async_callback(transport.aclose)
        both = RoutingTransport(transport, {"mock": MockTransport(clock)})
        yield Line(vendor, files, both, clock)


@pytest.fixture
async def line(monkeypatch):
    async with opened(monkeypatch) as one:
        yield one


def file(content=PNG, media_type="application/octet-stream", status=200, **headers):
    return Answer(status=status, headers={"content-type": media_type, **headers}, pieces=(content,))


@pytest.mark.parametrize("model", ["nova", "arn"])
async def test_a_signature_fits_what_goes_over_the_wire(line, model):
    """The fake region computes it again from the bytes that arrived."""
    line.vendor.says("Hello there.")

    answer = await line.call("complete", model, messages=[{"role": "user", "content": "Hi"}])

    assert "Hello there." == json.loads(answer.body)["choices"][0]["message"]["content"]
    path, headers, _ = line.vendor.requests[0]
    assert "%3A0/converse" in path
    assert "x-amz-date" in headers
    assert (20, 10) == (answer.usage.input_tokens, answer.usage.output_tokens)


async def test_a_stream_is_signed_and_read_the_same_way(line):
    line.vendor.thinks("Hm hm.", "Hello there.")

    stream = await line.call("stream", "nova", messages=[{"role": "user", "content": "Hi"}],
                             stream=True)  # fmt: skip
    said = b"".join([piece async for piece in stream])
    await stream.aclose()

    events = [json.loads(one[6:]) for one in said.split(b"\n\n")[:-2]]
    deltas = [event["choices"][0]["delta"] for event in events]
    assert "Hello there." == "".join(delta.get("content") or "" for delta in deltas)
    assert "Hm hm." == "".join(delta.get("reasoning_content") or "" for delta in deltas)
    assert 1 == len({event["id"] for event in events})
    assert [Outcome.SUCCEEDED] == [charge.outcome for charge in line.books.charges]
    assert 20 == line.books.charges[0].usage.input_tokens


async def test_vectors_are_asked_for_one_by_one_each_signed(line):
    for _ in range(3):
        line.vendor.embeds(4)

    answer = await line.call("complete", "titan", "/v1/embeddings", input=["a", "bb", "ccc"])

    found = json.loads(answer.body)
    assert [1.0, 2.0, 3.0] == [row["embedding"][0] for row in found["data"]]
    assert 9 == found["usage"]["prompt_tokens"]


async def test_a_refused_signature_is_the_credentials_fault(monkeypatch):
    async with opened(monkeypatch, secret_key="another") as line:
        line.vendor.says("never said")
        with pytest.raises(ChainFailed) as caught:
            await line.call("complete", "nova", messages=[{"role": "user", "content": "Hi"}])

        assert "upstream_credential" == caught.value.code
        assert SECRET not in str(caught.value)
        assert line.kit.catalog.providers["bedrock"].authorizer._refused


async def test_without_credentials_the_next_target_answers(line):
    answer = await line.call("complete", "helped", messages=[{"role": "user", "content": "Hi"}])

    assert ["lacking", "mock"] == [one.provider for one in answer.attempts]
    assert ("credential", None) == (answer.attempts[0].kind, answer.attempts[0].status_code)
    assert [] == line.vendor.requests
    assert 0 == line.books.charges[0].usage.input_tokens


@pytest.mark.behaviour(36)
async def test_pictures_by_url_are_fetched_for_who_cannot(line):
    """Once, though the question names it twice; its type is told by its bytes."""
    line.files.script("file", file())
    line.vendor.says("A picture.")

    answer, _ = await line.say(line.picture(), line.picture(), {"type": "text", "text": "What?"})

    _, _, asked = line.vendor.requests[0]
    images = [one["image"]["format"] for one in asked["messages"][0]["content"] if "image" in one]
    assert (["png", "png"], 1) == (images, len(line.files.requests))
    assert "bedrock" == answer.provider


@pytest.mark.behaviour(36)
@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([file(status=404)], "answered 404"),
        ([file(b"x" * 2_000_000)], "larger than 1 MiB"),
        ([file(status=302, location="http://10.0.0.1/x")], "must not be reached"),
        ([file(status=302, location="file:///etc/passwd")], "no plain http"),
        ([file(status=302, location="/file/b")] * 5, "redirected too often"),
        ([file(**{"content-encoding": "gzip"})], "encoded"),
        ([Answer(before_head="silence")], "more than 0.3 s"),
        ([Answer(before_head="reset")] * 3, "cannot be reached"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
async def test_what_cannot_be_fetched_is_said_and_not_sent(line, answers, why):
    config = FilesConfig(allow_networks=("127.0.0.0/8",), timeout_s=0.3, max_mb=1)
    line.kit = msgspec.structs.replace(line.kit, fetcher=GuardedFetcher(config, line.clock))
    line.files.script("file", *answers)

    with pytest.raises(InvalidRequest, match=why) as caught:
        await line.say(line.picture(), model="nova")

    assert "messages" == caught.value.param
    assert "sig=1" not in caught.value.message
    assert [] == line.vendor.requests


@pytest.mark.behaviour(36)
@pytest.mark.parametrize(
    "url",
    ["https://169.254.169.254/x", "http://localhost:1/x", "http://[::1]:1/x", "http://u:p@x.y/z"],
)
async def test_private_addresses_are_not_reached(line, url):
    fetcher = GuardedFetcher(FilesConfig(), line.clock)
    line.kit = msgspec.structs.replace(line.kit, fetcher=fetcher)

    with pytest.raises(InvalidRequest, match="was not fetched"):
        await line.say({"type": "image_url", "image_url": {"url": url}}, model="nova")


async def test_a_redirect_within_reach_is_followed(line):
    moved = file(status=302, location=f"http://127.0.0.1:{line.files.port}/file/b.png")
    line.files.script("file", moved, file(media_type="image/png; charset=x"))
    line.vendor.says("ok")

    await line.say(line.picture(), {"type": "text", "text": "?"}, model="nova")

    assert 2 == len(line.files.requests)


async def test_another_target_may_not_need_the_file(line):
    line.files.script("file", file(status=404))

    answer, _ = await line.say(line.picture(), {"type": "text", "text": "?"})

    assert (["bedrock", "mock"], "mock") == (
        [one.provider for one in answer.attempts],
        answer.provider,
    )


@pytest.mark.parametrize("fetcher", ["none", "few"])
async def test_no_more_is_fetched_than_the_operator_wants(line, fetcher):
    few = GuardedFetcher(FilesConfig(max_count=1), line.clock)
    line.kit = msgspec.structs.replace(line.kit, fetcher=few if fetcher == "few" else None)

    with pytest.raises(InvalidRequest, match=r"[Ss]end the content itself"):
        await line.say(line.picture(), line.picture("other"), model="nova")
