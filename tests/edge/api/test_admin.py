"""What operators see, and nobody else."""

import httpx
import pytest

from api.app import create_app
from api.edge import Edge
from tests.edge.api.conftest import KEY, MASTER_KEY

pytestmark = pytest.mark.anyio

ASK = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def operator(edge: Edge):
    """A client with the master key."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(edge)),
        base_url="http://gateway",
        headers={"authorization": f"Bearer {MASTER_KEY}"},
    ) as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/admin/providers", "/admin/routes", "/admin/routes/mock/explain"]
)
async def test_it_is_behind_the_master_key(http: httpx.AsyncClient, path: str):
    refused = await http.get(path)
    nameless = await http.get(path, headers={"authorization": ""})

    assert (403, "permission_denied") == (
        refused.status_code,
        refused.json()["error"]["code"],
    )
    assert (401, "invalid_api_key") == (
        nameless.status_code,
        nameless.json()["error"]["code"],
    )
    assert KEY not in refused.text


async def test_a_target_that_fails_is_seen_to_be_left_alone(
    http: httpx.AsyncClient, operator: httpx.AsyncClient
):
    """With since when and why; a call that went well brings it back."""
    broken = {**ASK, "mock": {"status": 503}}
    for _ in range(5):
        assert 503 == (await http.post("/v1/chat/completions", json=broken)).status_code

    [provider] = (await operator.get("/admin/providers")).json()["data"]
    [target] = provider["targets"]
    assert ("mock", "mock-1", "open", "overloaded") == (
        provider["name"],
        target["model"],
        target["phase"],
        target["reason"],
    )
    assert target["since"] > 1_700_000_000
    explained = (await operator.get("/admin/routes/mock/explain")).json()
    assert [False] == [one["fit"] for one in explained["targets"]]

    assert 200 == (await http.post("/v1/chat/completions", json=ASK)).status_code, "the only one"


async def test_a_plan_is_explained(operator: httpx.AsyncClient):
    """By any name the route has, slashes or not."""
    answer = await operator.get("/admin/routes/team/mock/explain")
    explained = answer.json()

    assert 200 == answer.status_code
    assert ("mock", "priority", "the file's order") == (
        explained["model"],
        explained["strategy"],
        explained["order"],
    )
    [target] = explained["targets"]
    assert (1, "mock", "mock-1", True, False) == (
        target["position"],
        target["provider"],
        target["model"],
        target["fit"],
        target["fallback"],
    )
    assert "1" == target["price"]["input_usd_per_mtok"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/admin/routes/nothing/explain", "model_not_found"),
        ("/admin/routes/mock", "not_found"),
        ("/admin/nothing", "not_found"),
    ],
)
async def test_what_is_not_there(operator: httpx.AsyncClient, path: str, code: str):
    answer = await operator.get(path)

    assert (404, code) == (answer.status_code, answer.json()["error"]["code"])


async def test_routes_are_listed(operator: httpx.AsyncClient):
    [route] = (await operator.get("/admin/routes")).json()["data"]

    assert ("mock", ["team/mock"], ["mock/mock-1"]) == (
        route["model"],
        route["aliases"],
        route["targets"],
    )


async def test_a_target_that_goes_last_is_seen_with_until_when(
    http: httpx.AsyncClient, operator: httpx.AsyncClient
):
    """Limited by its provider's own word, which no breaker knows of."""
    limited = {**ASK, "mock": {"status": 429, "retry_after_s": 40}}
    assert 429 == (await http.post("/v1/chat/completions", json=limited)).status_code

    [provider] = (await operator.get("/admin/providers")).json()["data"]
    [target] = provider["targets"]
    assert ("closed", "limited") == (target["phase"], target["set_aside"]["fact"])
    assert target["set_aside"]["until"] > 1_700_000_000
