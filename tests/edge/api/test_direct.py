"""What a caller reads of a provider's 4xx, asked by a route and by `provider/model`."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.main import open_edge
from shared.runtime import open_runtime
from shared.settings import load_settings
from tests.fakes.upstream import Upstream, running_upstream, status

pytestmark = pytest.mark.anyio

KEY = "sk-direct-0123456789abcdef"
CONFIG = """
version: 1
providers:
  up: {{kind: openai_compatible, base_url: "{url}", api_key: sk-upstream}}
routes:
  - {{model: routed, targets: [{{provider: up, model: gone}}]}}
  - {{model: "any/*", targets: [{{provider: up, model: "*"}}]}}
tenants:
  - {{id: acme, keys: [{{name: ci, key: {key}, scopes: [provider_models]}}]}}
"""


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running_upstream() as opened:
        yield opened


@pytest.fixture
async def http(
    tmp_path: Path, sqlite_url: str, upstream: Upstream
) -> AsyncIterator[httpx.AsyncClient]:
    config = tmp_path / "sluiceway.yaml"
    config.write_text(CONFIG.format(url=upstream.base_url("up"), key=KEY))
    settings = load_settings(
        {
            "SLUICEWAY_CONFIG": str(config),
            "SLUICEWAY_DATA_DIR": str(tmp_path / "data"),
            "SLUICEWAY_DATABASE_URL": sqlite_url,
            "SLUICEWAY_SECRET_KEY": "the-tests-own-secret-key-0123456789",
        }
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


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("up/gone", (404, "model_not_found", "model")),
        ("routed", (502, "upstream_unavailable", None)),
        ("any/gone", (502, "upstream_unavailable", None)),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_the_provider_does_not_know(
    http: httpx.AsyncClient, upstream: Upstream, model: str, expected: object, stream: object
):
    error = {"message": "no such model", "type": "x", "param": "theirs", "code": "model_not_found"}
    upstream.always("up", status(404, error))

    answer = await http.post(
        "/v1/chat/completions",
        json={
            "model": model,
            "messages": [{"role": "user", "content": "hi"}],
            "stream": stream,
        },
    )

    shown = answer.json()["error"]
    assert expected == (answer.status_code, shown["code"], shown["param"])
    assert 1 == len(shown["attempts"])


@pytest.mark.parametrize(("given", "expected"), [(422, 422), (413, 413), (418, 400), (451, 400)])
async def test_a_refusal_keeps_only_a_status_about_the_request(
    http: httpx.AsyncClient, upstream: Upstream, given: int, expected: int
):
    error = {"message": "odd", "type": "x", "param": "n", "code": "odd_value"}
    upstream.always("up", status(given, error))

    answer = await http.post(
        "/v1/chat/completions",
        json={"model": "routed", "messages": [{"role": "user", "content": "hi"}]},
    )

    shown = answer.json()["error"]
    assert (expected, "odd_value", "n") == (answer.status_code, shown["code"], shown["param"])
