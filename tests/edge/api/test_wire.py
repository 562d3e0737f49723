"""Bad input as raw bytes on a real socket: told what is wrong, and the next caller is served."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import copyfile

import pytest

from api.head import MAX_HEADERS
from api.main import open_edge
from shared.runtime import open_runtime
from shared.settings import load_settings
from tests.edge.api.conftest import CONFIG, KEY, MASTER_KEY
from tests.edge.api.wire import connected, post, request, served

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
JOBS = "/v1/jobs"
HI = [{"role": "user", "content": "hi"}]
GOOD = json.dumps({"model": "mock", "messages": HI}).encode()
KEYED = {"authorization": f"Bearer {KEY}"}
INVALID = (400, "invalid_request")


@pytest.fixture(scope="module")
async def port(
    tmp_path_factory: pytest.TempPathFactory, _migrated_sqlite: Path
) -> AsyncIterator[int]:
    home = tmp_path_factory.mktemp("wire")
    (home / "sluiceway.yaml").write_text(CONFIG)
    copyfile(_migrated_sqlite, home / "sluiceway.db")
    settings = load_settings(
        {
            "SLUICEWAY_CONFIG": str(home / "sluiceway.yaml"),
            "SLUICEWAY_DATA_DIR": str(home / "data"),
            "SLUICEWAY_DATABASE_URL": f"sqlite:///{home}/sluiceway.db",
            "SLUICEWAY_SECRET_KEY": "the-tests-own-secret-key-0123456789",
            "SLUICEWAY_MASTER_KEY": MASTER_KEY,
        }
    )
    async with (
        open_runtime(settings, role="api") as runtime,
        open_edge(runtime) as edge,
        served(edge) as opened,
    ):
        yield opened


def chat(**fields: object) -> bytes:
    return post(CHAT, json.dumps({"model": "mock", "messages": HI} | fields).encode())


def chat_with(text: bytes) -> bytes:
    """A good call with a piece of JSON that no library would send."""
    return post(CHAT, GOOD[:-1] + b"," + text + b"}")


def embeddings(**fields: object) -> bytes:
    return post(EMBEDDINGS, json.dumps({"model": "mock"} | fields).encode())


def job(**fields: object) -> bytes:
    asked = {"endpoint": CHAT, "body": {"model": "mock", "messages": HI}} | fields
    return post(JOBS, json.dumps(asked).encode())


def good(**headers: str) -> bytes:
    """A good call with odd headers; underscores stand for hyphens."""
    return post(CHAT, GOOD, {name.replace("_", "-"): value for name, value in headers.items()})


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


BODIES = {
    "nothing": (post(CHAT, b""), None),
    "a blank": (post(CHAT, b" \r\n"), None),
    "no JSON": (post(CHAT, b"model=mock&messages=hi"), None),
    "single quotes": (post(CHAT, b"{'model': 'mock'}"), None),
    "a comment": (post(CHAT, b"{/* hi */}"), None),
    "a comma too many": (post(CHAT, GOOD[:-1] + b",}"), None),
    "cut": (post(CHAT, GOOD[:-1]), None),
    "two values": (post(CHAT, GOOD + GOOD), None),
    "a BOM": (post(CHAT, b"\xef\xbb\xbf" + GOOD), None),
    "UTF-16": (post(CHAT, GOOD.decode().encode("utf-16")), None),
    "UTF-32": (post(CHAT, GOOD.decode().encode("utf-32")), None),
    "Latin-1": (chat_with('"x": "café"'.encode("latin-1")), None),
    "overlong UTF-8": (chat_with(b'"x": "\xc0\xaf"'), None),
    "a surrogate in UTF-8": (chat_with(b'"x": "\xed\xa0\x80"'), None),
    "half an escaped pair": (chat_with(b'"x": "\\ud800"'), None),
    "the wrong half": (chat_with(b'"x": "\\udc00 "'), None),
    "an unknown escape": (chat_with(b'"x": "\\x41"'), None),
    "a raw line break": (chat_with(b'"x": "a\nb"'), None),
    "a NUL": (chat_with(b'"x": \x00'), None),
    "NaN": (chat_with(b'"temperature": NaN'), None),
    "NaN in the unread": (chat_with(b'"x": {"y": [NaN]}'), None),
    "Infinity": (chat_with(b'"temperature": Infinity'), None),
    "-Infinity": (chat_with(b'"x": -Infinity'), None),
    "a number from 0": (chat_with(b'"x": 01'), None),
    "a hexadecimal number": (chat_with(b'"x": 0x10'), None),
    "a huge float": (chat_with(b'"temperature": 1e999'), "temperature"),
    "a huge max_tokens": (chat_with(b'"max_tokens": 1e999'), "max_tokens"),
    "400 digits as a float": (chat_with(b'"top_p": ' + b"1" * 400), "top_p"),
    "null": (post(CHAT, b"null"), None),
    "an array": (post(CHAT, b"[]"), None),
    "a text": (post(CHAT, b'"hi"'), None),
    "a number": (post(CHAT, b"7"), None),
    "true": (post(CHAT, b"true"), None),
    "an empty object": (post(CHAT, b"{}"), "model"),
    "deep": (post(CHAT, nested(100_000)), None),
    "deep messages": (chat_with(b'"messages": ' + nested(100_000)), None),
    "deep in the unread": (chat_with(b'"x": ' + nested(100_000)), None),
    "deep objects": (chat_with(b'"x": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000), None),
    "model missing": (post(CHAT, b'{"messages": []}'), "model"),
    "model null": (chat(model=None), "model"),
    "model empty": (chat(model=""), "model"),
    "model a number": (chat(model=1), "model"),
    "a model that is too long": (chat(model="m" * 257), "model"),
    "model a list": (chat(model=["mock"]), "model"),
    "model given twice": (chat_with(b'"model": 5'), "model"),
    "messages missing": (post(CHAT, b'{"model": "mock"}'), "messages"),
    "messages null": (chat(messages=None), "messages"),
    "messages empty": (chat(messages=[]), "messages"),
    "messages a text": (chat(messages="hi"), "messages"),
    "messages an object": (chat(messages={"role": "user"}), "messages"),
    "a message that is a text": (chat(messages=["hi"]), "messages[0]"),
    "a message that is null": (chat(messages=[*HI, None]), "messages[1]"),
    "a message without a role": (chat(messages=[*HI, {"content": "a"}]), "messages[1].role"),
    "a role that is a number": (chat(messages=[{"role": 1}]), "messages[0].role"),
    "stream a text": (chat(stream="true"), "stream"),
    "stream a number": (chat(stream=1), "stream"),
    "stream_options a flag": (chat(stream=True, stream_options=True), "stream_options"),
    "include_usage a text": (
        chat(stream=True, stream_options={"include_usage": "yes"}),
        "stream_options.include_usage",
    ),
    "max_tokens a text": (chat(max_tokens="10"), "max_tokens"),
    "max_tokens a fraction": (chat(max_tokens=1.5), "max_tokens"),
    "max_completion_tokens a list": (chat(max_completion_tokens=[]), "max_completion_tokens"),
    "n a text": (chat(n="2"), "n"),
    "temperature a text": (chat(temperature="hot"), "temperature"),
    "temperature an object": (chat(temperature={}), "temperature"),
    "top_p a flag": (chat(top_p=True), "top_p"),
    "presence_penalty a text": (chat(presence_penalty="1"), "presence_penalty"),
    "frequency_penalty a list": (chat(frequency_penalty=[1]), "frequency_penalty"),
    "seed a text": (chat(seed="7"), "seed"),
    "stop a number": (chat(stop=5), "stop"),
    "stop a list of numbers": (chat(stop=[5]), "stop[0]"),
    "tools a text": (chat(tools="calculator"), "tools"),
    "tools an object": (chat(tools={}), "tools"),
    "tool_choice a number": (chat(tool_choice=1), "tool_choice"),
    "parallel_tool_calls a text": (chat(parallel_tool_calls="no"), "parallel_tool_calls"),
    "response_format a text": (chat(response_format="json"), "response_format"),
    "logit_bias a list": (chat(logit_bias=[]), "logit_bias"),
    "metadata a text": (chat(metadata="a=b"), "metadata"),
    "user a number": (chat(user=5), "user"),
    "safety_identifier a list": (chat(safety_identifier=[]), "safety_identifier"),
    "input missing": (embeddings(), "input"),
    "input null": (embeddings(input=None), "input"),
    "input a number": (embeddings(input=7), "input"),
    "input an object": (embeddings(input={"text": "a"}), "input"),
    "encoding_format a number": (embeddings(input="a", encoding_format=1), "encoding_format"),
    "dimensions a text": (embeddings(input="a", dimensions="256"), "dimensions"),
    "embeddings as a stream": (embeddings(input="a", stream=True), "stream"),
    "a job without an endpoint": (post(JOBS, b'{"body": {}}'), "endpoint"),
    "a job for a strange endpoint": (job(endpoint="/v1/nothing"), "endpoint"),
    "a job with a bad call": (job(body={"model": "mock", "messages": 5}), "body.messages"),
    "a job with a strange field": (job(surprise=1), "surprise"),
    "a job that is late": (job(deadline=1), "deadline"),
    "a job's priority": (job(priority="now"), "priority"),
    "a job's metadata": (job(metadata={"a": 1}), "metadata"),
    "a job's webhook": (job(webhook_url="gopher://x"), "webhook_url"),
    "a deep job": (post(JOBS, nested(100_000)), None),
    "a job in bad UTF-8": (post(JOBS, b'{"endpoint": "\xff"}'), None),
    "plain text": (good(content_type="text/plain"), None),
    "a form": (good(content_type="application/x-www-form-urlencoded"), None),
    "JSON lines": (good(content_type="application/jsonl"), None),
    "a nonsense type": (good(content_type=";;;"), None),
    "a timeout in words": (good(x_sluiceway_timeout="soon"), "X-Sluiceway-Timeout"),
    "a timeout of 0": (good(x_sluiceway_timeout="0"), "X-Sluiceway-Timeout"),
    "a timeout below 0": (good(x_sluiceway_timeout="-5"), "X-Sluiceway-Timeout"),
    "an infinite timeout": (good(x_sluiceway_timeout="inf"), "X-Sluiceway-Timeout"),
    "tags without a value": (good(x_sluiceway_tags="a,b"), "X-Sluiceway-Tags"),
    "too many tags": (
        good(x_sluiceway_tags=",".join(f"a{one}=b" for one in range(17))),
        "X-Sluiceway-Tags",
    ),
    "a limit in words": (request("GET", f"{JOBS}?limit=few", KEYED), "limit"),
    "a limit of 0": (request("GET", f"{JOBS}?limit=0", KEYED), "limit"),
    "a limit in bad UTF-8": (request("GET", f"{JOBS}?limit=%ff", KEYED), "limit"),
    "a strange status": (request("GET", f"{JOBS}?status=asleep", KEYED), "status"),
    "a wait that is too long": (request("GET", f"{JOBS}/job_0?wait=61", KEYED), "wait"),
    "no moment": (request("GET", "/v1/usage?since=yesterday", KEYED), "since"),
    "no moment at all": (request("GET", "/v1/usage?until=%00", KEYED), "until"),
    "the year 30000": (request("GET", "/v1/usage?until=999999999999999", KEYED), "until"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_what_is_asked_wrongly_is_named(port: int, case: str):
    """The connection serves on: everything that was sent has been read."""
    sent, param = BODIES[case]
    async with connected(port) as wire:
        answer = await wire.ask(sent)
        again = await wire.ask(post(CHAT, GOOD))

    assert INVALID == (answer.status, answer.error["code"]), answer.body
    assert "invalid_request_error" == answer.error["type"]
    assert param == answer.error["param"]
    assert answer.error["message"]
    assert answer.headers["x-request-id"]
    assert ("application/json", "close") != (
        answer.headers["content-type"],
        answer.headers.get("connection"),
    )
    assert 200 == again.status


NOBODY = (401, "invalid_api_key")
REFUSED = {
    "no key": (post(CHAT, GOOD, {"authorization": ""}), NOBODY),
    "an unknown key": (good(authorization="Bearer sk-guess"), NOBODY),
    "an empty key": (good(authorization="Bearer  "), NOBODY),
    "another scheme": (good(authorization="Basic eDp5"), NOBODY),
    "a key of bytes": (good(authorization="Bearer \xff\xfe\x80"), NOBODY),
    "a long key": (good(authorization="Bearer " + "k" * 20_000), NOBODY),
    "the master key": (good(authorization=f"Bearer {MASTER_KEY}"), (403, "permission_denied")),
    "an unknown model": (chat(model="gpt-99"), (404, "model_not_found")),
    "a model given twice": (chat_with(b'"model": "gpt-99"'), (404, "model_not_found")),
    "a provider's model": (chat(model="mock/x\r\ny"), (404, "model_not_found")),
    "a long model": (chat(model="m" * 256), (404, "model_not_found")),
    "no such path": (request("GET", "/nothing"), (404, "not_found")),
    "a long path": (request("GET", "/" + "a" * 30_000), (404, "not_found")),
    "a path outwards": (request("GET", "/../../etc/passwd"), (404, "not_found")),
    "a path of bytes": (request("GET", "/%ff%00%0d%0a"), (404, "not_found")),
    "the server as a path": (request("GET", "*"), (404, "not_found")),
    "no such job": (request("GET", f"{JOBS}/job_0", KEYED), (404, "not_found")),
    "a job of bytes": (request("GET", f"{JOBS}/%00%ff", KEYED), (404, "not_found")),
    "without /v1": (post("/chat/completions", GOOD), (404, "not_found")),
    "with two /v1": (post("/v1/v1/chat/completions", GOOD), (404, "not_found")),
    "GET for POST": (request("GET", CHAT, KEYED), (405, "method_not_allowed")),
    "TRACE": (request("TRACE", CHAT, KEYED), (405, "method_not_allowed")),
    "PROPFIND": (request("PROPFIND", "/v1/models", KEYED), (405, "method_not_allowed")),
    "PATCH": (request("PATCH", JOBS, KEYED), (405, "method_not_allowed")),
    "DELETE for health": (request("DELETE", "/livez"), (405, "method_not_allowed")),
    "too large": (post(CHAT, b"x" * 1_100_000), (413, "request_too_large")),
    "a job too large": (post(JOBS, b"x" * 1_100_000), (413, "request_too_large")),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_had_is_refused(port: int, case: str):
    """Here too the connection serves on; a body that nobody wants is thrown away."""
    sent, expected = REFUSED[case]
    async with connected(port) as wire:
        answer = await wire.ask(sent)
        again = await wire.ask(post(CHAT, GOOD))

    assert expected == (answer.status, answer.error["code"]), answer.body
    assert answer.headers["x-request-id"]
    assert 200 == again.status


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n"
UNREADABLE = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "an unknown method": b"FETCH / HTTP/1.1\r\nhost: x\r\n\r\n",
    "a method in small letters": b"get / HTTP/1.1\r\nhost: x\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2 by name": b"GET / HTTP/2.0\r\nhost: x\r\n\r\n",
    "HTTP/3 by name": b"GET / HTTP/3.0\r\nhost: x\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "a proxy's request": b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n",
    "bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
    "a blank in the path": b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n",
    "no path": b"GET ?a=b HTTP/1.1\r\nhost: x\r\n\r\n",
    "bare line feeds": b"GET /livez HTTP/1.1\nhost: x\n\n",
    "a folded header": b"GET /livez HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n",
    "a NUL in a header": b"GET /livez HTTP/1.1\r\nhost: x\r\na: b\x00c\r\n\r\n",
    "a header without a colon": b"GET /livez HTTP/1.1\r\nhost: x\r\nabc\r\n\r\n",
    "a header without a name": b"GET /livez HTTP/1.1\r\nhost: x\r\n: c\r\n\r\n",
    "a blank before the colon": HEAD + b"content-length : 2\r\n\r\n{}",
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "one length twice": HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "a list of lengths": HEAD + b"content-length: 2, 2\r\n\r\n{}",
    "a length below 0": HEAD + b"content-length: -2\r\n\r\n{}",
    "a signed length": HEAD + b"content-length: +2\r\n\r\n{}",
    "a length in words": HEAD + b"content-length: two\r\n\r\n{}",
    "a huge length": HEAD + b"content-length: 99999999999999999999999\r\n\r\n{}",
    "an empty length": HEAD + b"content-length:\r\n\r\n{}",
    "length and chunks": CHUNKED + b"content-length: 2\r\n\r\n0\r\n\r\n",
    "chunks twice": CHUNKED + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks not last": HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "packed chunks": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "nearly chunks": HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks of HTTP/1.0": CHUNKED.replace(b"1.1", b"1.0") + b"\r\n0\r\n\r\n",
    "a chunk of no size": CHUNKED + b"\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a chunk below 0": CHUNKED + b"\r\n-1\r\n{}\r\n0\r\n\r\n",
    "a huge chunk": CHUNKED + b"\r\nffffffffffffffffff\r\n{}\r\n",
    "a chunk too long": CHUNKED + b"\r\n2\r\n{}xx\r\n0\r\n\r\n",
    "too many headers": HEAD + b"a: b\r\n" * MAX_HEADERS + b"\r\n",
    "a long header": HEAD + b"a: " + b"b" * 70_000 + b"\r\n\r\n",
    "a long head": HEAD + (b"a: " + b"b" * 9_000 + b"\r\n") * 8 + b"\r\n",
    "a head without end": HEAD + b"a: " + b"b" * 200_000,
    "a long path": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
}


@pytest.mark.parametrize("case", UNREADABLE)
async def test_what_is_no_request_is_answered_and_ends_the_connection(port: int, case: str):
    """In the shape of every other error; nobody knows where the next request would begin."""
    async with connected(port) as wire:
        answer = await wire.ask(UNREADABLE[case])
        assert b"" == await wire.closed()
    async with connected(port) as wire:
        again = await wire.ask(post(CHAT, GOOD))

    assert INVALID == (answer.status, answer.error["code"])
    assert None is answer.error["param"]
    assert "close" == answer.headers["connection"]
    assert "application/json" == answer.headers["content-type"]
    assert answer.headers["x-request-id"]
    assert 200 == again.status


ODD = {
    "a slash at the end": post(f"{CHAT}/", GOOD),
    "doubled slashes": post("//v1//chat/completions", GOOD),
    "a whole URL": post(f"http://gateway{CHAT}", GOOD),
    "a query": post(f"{CHAT}?api-version=2024-10-21", GOOD),
    "an escaped path": post("/v1/%63hat/completions", GOOD),
    "no content type": post(CHAT, GOOD, {"content-type": ""}),
    "a charset": post(CHAT, GOOD, {"content-type": "Application/JSON ; charset=utf-8"}),
    "small chunks": post(CHAT, b"", {"transfer-encoding": "chunked", "content-length": ""})
    + b"".join(b"1;note=x\r\n%c\r\n" % byte for byte in GOOD)
    + b"0\r\nx-trailer: 1\r\n\r\n",
    "blank lines before it": b"\r\n\r\n" + post(CHAT, GOOD),
    "a wish for HTTP/2": post(
        CHAT, GOOD, {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c"}
    ),
    "a web socket": post(CHAT, GOOD, {"connection": "upgrade", "upgrade": "websocket"}),
    "another expectation": post(CHAT, GOOD, {"expect": "the-best"}),
    "a request id of bytes": post(CHAT, GOOD, {"x-request-id": "\xff" * 300}),
    "a key given twice": post(CHAT, GOOD[:-1] + b',"model":"mock"}'),
    "400 digits": chat_with(b'"max_tokens": ' + b"9" * 400),
    "nulls": chat(stream=None, max_tokens=None, tools=None, stop=None, user=None, metadata=None),
    "a blank before the body": post(CHAT, b" \n" + GOOD),
}


@pytest.mark.parametrize("case", ODD)
async def test_what_is_only_odd_is_served(port: int, case: str):
    async with connected(port) as wire:
        wire.send(ODD[case])
        answer = await wire.answer()
        again = await wire.ask(post(CHAT, GOOD))

    assert (200, 200) == (answer.status, again.status), answer.body


async def test_a_trailer_is_no_header(port: int):
    """A key that comes behind the body opens nothing."""
    sent = post(CHAT, b"", {"authorization": "", "transfer-encoding": "chunked"}).replace(
        b"content-length: 0\r\n", b""
    )
    async with connected(port) as wire:
        answer = await wire.ask(
            sent
            + b"%x\r\n%b\r\n0\r\nauthorization: Bearer %b\r\n\r\n" % (len(GOOD), GOOD, KEY.encode())
        )

    assert (401, "invalid_api_key") == (answer.status, answer.error["code"])


@pytest.mark.parametrize("given", ["a" * 129, "a b", "\xe9", "<x>", '"'])
async def test_an_id_that_is_not_safe_to_repeat_is_replaced(port: int, given: str):
    async with connected(port) as wire:
        answer = await wire.ask(post(CHAT, GOOD, {"x-request-id": given}))
        other = await wire.ask(request("GET", "/livez", {"x-request-id": given}))

    assert answer.headers["x-request-id"].startswith("req_")
    assert other.headers["x-request-id"].startswith("req_")


async def test_pipelined_requests_are_answered_in_order(port: int):
    """Garbage behind them ends the connection, after what was asked before."""
    async with connected(port) as wire:
        wire.send(post(CHAT, GOOD) + request("GET", "/nothing") + b"garbage\r\n\r\n")
        first = await wire.answer()
        rest = await wire.closed()

    assert 200 == first.status
    assert not rest or rest.startswith(b"HTTP/1.1 404")
    assert b"This is not HTTP" not in rest


async def test_the_server_as_a_whole_has_options(port: int):
    async with connected(port) as wire:
        answer = await wire.ask(request("OPTIONS", "*"))

    assert (204, "DELETE, GET, OPTIONS, POST") == (answer.status, answer.headers["allow"])
    assert answer.headers["x-request-id"]


async def test_a_target_that_names_no_more_than_the_host_is_the_root(port: int):
    async with connected(port) as wire:
        answers = [await wire.ask(request("GET", f"http://gw.example{path}")) for path in ("", "/")]

    assert answers[0].status == answers[1].status == 404
