"""Browsers, base URLs and methods: what is said before a handler is asked."""

import subprocess
import sys
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from api.access import Served
from api.app import create_app
from api.cors import Cors
from api.edge import Edge
from api.front import Front, plain
from api.main import open_edge
from shared.runtime import open_runtime
from shared.settings import Settings
from tests.edge.api.conftest import CONFIG, KEY, MASTER_KEY

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
ASKED = {"model": "mock", "messages": [{"role": "user", "content": "hi"}]}
PAGE = {"origin": "https://app.example.com"}
PREFLIGHT = {
    **PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


@pytest.fixture
async def open_http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway that takes calls from pages of one origin."""
    assert settings.config_path is not None
    settings.config_path.write_text(
        CONFIG.replace("max_body_mb: 1", 'max_body_mb: 1, cors: ["https://app.example.com/"]')
    )
    async with (
        open_runtime(settings, role="api") as runtime,
        open_edge(runtime) as edge,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(edge)),
            base_url="http://gateway",
            headers={"authorization": f"Bearer {KEY}"},
        ) as client,
    ):
        yield client


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings", "/v1/models", "/v1/jobs/job_0", "/livez"])
async def test_a_browser_may_ask_without_a_key(open_http: httpx.AsyncClient, path: str):
    del open_http.headers["authorization"]

    answer = await open_http.options(path, headers=PREFLIGHT)

    assert (204, b"") == (answer.status_code, answer.content)
    assert "https://app.example.com" == answer.headers["access-control-allow-origin"]
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert (
        PREFLIGHT["access-control-request-headers"]
        == answer.headers["access-control-allow-headers"]
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_page_may_read_the_answer(open_http: httpx.AsyncClient, stream: object):
    answer = await open_http.post(CHAT, json={**ASKED, "stream": stream}, headers=PAGE)

    assert 200 == answer.status_code
    assert ("https://app.example.com", "origin") == (
        answer.headers["access-control-allow-origin"],
        answer.headers["vary"],
    )
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    own = {name for name in answer.headers if name.startswith("x-") and "content" not in name}
    own -= {"x-accel-buffering"}  # nginx keeps it to itself
    assert own <= set(exposed)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", CHAT, 400), ("GET", "/nothing", 404)]
)
async def test_a_page_may_read_a_refusal(
    open_http: httpx.AsyncClient, method: str, path: str, status: int
):
    answer = await open_http.request(method, path, headers=PAGE)

    assert (status, "https://app.example.com") == (
        answer.status_code,
        answer.headers["access-control-allow-origin"],
    )


async def test_pages_of_other_origins_may_not(open_http: httpx.AsyncClient):
    answer = await open_http.post(CHAT, json=ASKED, headers={"origin": "https://evil.example"})

    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_without_origins_in_the_config_no_page_may(http: httpx.AsyncClient):
    answer = await http.options(CHAT, headers=PREFLIGHT)

    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (204, "OPTIONS, POST") == (answer.status_code, answer.headers["allow"])


def test_any_origin_may_be_let_in():
    cors = Cors(["*"])

    headers = dict(
        cors.preflight(b"https://a.example", {b"access-control-request-method": b"GET"}) or []
    )

    assert cors.allows(b"null")
    assert b"*" == headers[b"access-control-allow-origin"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/models/", "/v1/models"),
        ("//v1///models", "/v1/models"),
        ("/", "/"),
        ("//", "/"),
        ("*", "*"),
    ],
)
def test_slashes_do_not_matter(path: str, expected: str):
    assert expected == plain(path)


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        (CHAT, "OPTIONS, POST"),
        ("/v1/jobs", "GET, OPTIONS, POST"),
        ("/v1/jobs/job_0", "DELETE, GET, OPTIONS"),
        ("/v1/jobs/job_0/cancel/", "OPTIONS, POST"),
        ("/v1/models/team/mock", "GET, OPTIONS"),
        ("/livez", "GET, OPTIONS"),
        ("/docs", "GET, OPTIONS"),
    ],
)
async def test_options_tell_the_methods_without_a_key(
    http: httpx.AsyncClient, path: str, allow: str
):
    del http.headers["authorization"]

    answer = await http.options(path)

    assert (204, allow) == (answer.status_code, answer.headers["allow"])


async def test_options_of_nothing_are_a_404(http: httpx.AsyncClient):
    assert 404 == (await http.options("/nothing")).status_code


@pytest.mark.parametrize(
    ("path", "status"),
    [("/livez", 200), ("/v1/models", 200), ("/nothing", 404), (CHAT, 405), ("/v1/jobs/x", 404)],
)
async def test_head_answers_as_get_would(http: httpx.AsyncClient, path: str, status: int):
    assert status == (await http.head(path)).status_code


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", CHAT),
        ("/embeddings/", "/v1/embeddings"),
        ("/models", "/v1/models"),
        ("/models/mock", "/v1/models/mock"),
        ("/jobs/job_0", "/v1/jobs/job_0"),
        ("/v1/v1/models", "/v1/models"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_wrong_base_url_is_told_the_right_one(
    http: httpx.AsyncClient, method: str, path: str, meant: str
):
    answer = await http.request(method, path)

    error = answer.json()["error"]
    assert (404, "not_found") == (answer.status_code, error["code"])
    assert f"Did you mean {meant}? The base URL ends in" in error["message"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/nothing", "/livez", "/v1/usage"])
async def test_answers_are_not_guessed_at_nor_kept(http: httpx.AsyncClient, path: str):
    answer = await http.get(path)

    assert ("nosniff", "no-store") == (
        answer.headers["x-content-type-options"],
        answer.headers["cache-control"],
    )


async def test_a_calls_answer_is_not_guessed_at(http: httpx.AsyncClient):
    answer = await http.post(CHAT, json=ASKED)

    assert "nosniff" == answer.headers["x-content-type-options"]


async def test_the_documentation_stands_in_no_frame(http: httpx.AsyncClient):
    page = await http.get("/docs", headers={"authorization": f"Bearer {MASTER_KEY}"})

    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert ("no-referrer", "DENY") == (
        page.headers["referrer-policy"],
        page.headers["x-frame-options"],
    )


async def test_an_id_that_looks_like_a_key_is_not_repeated(http: httpx.AsyncClient):
    ids = [
        (await http.get("/livez", headers={"x-request-id": given})).headers["x-request-id"]
        for given in ("mine", "sk-other-SECRETaaaaaaaaaaaaaa1")
    ]

    assert "mine" == ids[0]
    assert "SECRET" not in ids[1]


async def test_a_key_in_the_model_s_place_is_not_logged(http: httpx.AsyncClient, edge: Edge):
    served: list[Served] = []
    edge.access.add = served.append  # type: ignore[method-assign]

    for model in ("nope", "sk-other-SECRETaaaaaaaaaaaaaa1"):
        await http.post(CHAT, json={**ASKED, "model": model})

    assert ["nope", "[hidden]"] == [one.model for one in served]


async def test_a_bug_behind_everything_is_an_internal_error(edge: Edge):
    """It says nothing of what broke."""

    async def broken(scope, receive, send):
        raise ZeroDivisionError("secret")

    front = Front({}, broken, lambda path: (), None, edge.ids)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(front), base_url="http://gateway"
    ) as client:
        answer = await client.get("/livez", headers={"x-request-id": "mine"})

    assert (500, "internal_error") == (answer.status_code, answer.json()["error"]["code"])
    assert "mine" == answer.headers["x-request-id"]
    assert "secret" not in answer.text


async def test_a_bug_in_a_handler_is_an_internal_error(http: httpx.AsyncClient, edge: Edge):
    class Broken:
        @property
        def kit(self):
            raise ZeroDivisionError("secret")

    edge.gateway = Broken()

    answers = [await http.get("/v1/models"), await http.post(CHAT, json=ASKED)]

    for answer in answers:
        assert (500, "internal_error") == (answer.status_code, answer.json()["error"]["code"])
        assert "secret" not in answer.text
        assert answer.headers["x-request-id"]


async def test_a_model_with_a_line_break_cannot_break_the_head(settings: Settings):
    """A key that may ask for any model of a provider sends what it likes as its name."""
    assert settings.config_path is not None
    settings.config_path.write_text(
        CONFIG.replace(f"key: {KEY}", f"key: {KEY}, scopes: [provider_models]")
    )
    asked = msgspec.structs.replace(settings)
    async with (
        open_runtime(asked, role="api") as runtime,
        open_edge(runtime) as edge,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(edge)),
            base_url="http://gateway",
            headers={"authorization": f"Bearer {KEY}"},
        ) as client,
    ):
        answer = await client.post(CHAT, json={**ASKED, "model": "mock/a\r\nset-cookie: b"})

    assert answer.status_code < 500
    assert not [value for value in answer.headers.values() if "\r" in value or "\n" in value]


def test_what_no_handler_takes_is_not_loaded():
    """Pydantic is installed for the list of prices; without a look at that it would be 8 MB."""
    code = "import sys; from api.rest import rest_app; rest_app(); print('pydantic' in sys.modules)"

    assert "False" == subprocess.check_output([sys.executable, "-c", code], text=True).strip()
