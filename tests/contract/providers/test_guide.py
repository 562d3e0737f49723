"""The guide to adding a provider: its code runs, and its provider works as the page says."""

import re
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from shared.config.model import ProviderConfig
from shared.providers.dialects.openai_chat import parse_response
from shared.providers.exchange import HttpResponse
from shared.providers.relay import RelayAdapter, Vendor
from shared.providers.target import Target
from tests.contract.providers.golden import Case
from tests.contract.providers.test_golden import folded, story, streamed

PAGE = Path(__file__).parents[3] / "docs/add-a-provider.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
ROW, *FILES = [text for language, text in BLOCKS if "python" == language]
(CASE,) = [msgspec.json.decode(text, type=Case) for language, text in BLOCKS if "json" == language]


@pytest.fixture
def adapter(monkeypatch):
    """The guide's adapter, its files imported under the names the guide gives them."""
    for text in FILES:
        path = text.partition("\n")[0].removeprefix("# ")
        name = path.removesuffix(".py").replace("/", ".")
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(text, f"<{path}>", "exec"), module.__dict__)
    (found,) = module.ADAPTERS
    return found


def exchange(adapter, case=CASE, **config):
    provider = msgspec.convert({"kind": adapter.kind, **config}, ProviderConfig)
    target = msgspec.convert({"provider": "vendor", **case.target}, Target)
    return adapter.exchange(provider, case.secret, case.asked, target)


def test_a_row_is_enough():
    adapter = RelayAdapter(eval(ROW, {"Vendor": Vendor}))

    request = exchange(adapter).request

    assert "https://api.acme.example/v1/chat/completions" == request.url
    assert "grey" == msgspec.json.decode(request.body)["model"]


def test_what_is_sent(adapter):
    request = exchange(adapter).request

    assert CASE.sent["url"] == request.url
    assert CASE.sent["headers"].items() <= request.headers.items()
    assert CASE.sent["body"] == msgspec.json.decode(request.body)


def test_the_stream_means_what_the_page_says(adapter):
    out, _, scanner, error = streamed(exchange(adapter), [CASE.answer_bytes])

    assert error is None
    expected = CASE.meaning["choices"][0]
    choice = folded(out).choices[0]
    assert (expected["text"], expected["finish"]) == (choice.text, choice.finish.value)
    assert CASE.meaning["usage"]["output_tokens"] == scanner.usage.output_tokens


def test_however_its_bytes_are_cut(adapter):
    raw = CASE.answer_bytes

    assert story(exchange(adapter), [raw]) == story(
        exchange(adapter), [bytes([byte]) for byte in raw]
    )


def test_a_whole_answer(adapter):
    body = b'{"said": "Hi", "end": "done", "heard_tokens": 1, "said_tokens": 1}'

    reply = exchange(adapter).read(HttpResponse(status=200, headers={}, body=body))

    assert "Hi" == parse_response(reply.body).choices[0].text


@pytest.mark.parametrize("raw", [b"oops\n", b'{"said": "half'])
def test_what_is_no_talk_is_malformed(adapter, raw):
    error = streamed(exchange(adapter), [raw])[-1]

    assert "malformed" == error.kind.value
