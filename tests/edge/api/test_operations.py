"""Health, metrics and the OpenAPI document."""

import httpx
import msgspec
import pytest

from api.app import create_app
from api.edge import Edge
from api.main import open_edge
from api.rest import rest_app
from shared.gateway.parse import ENDPOINTS
from shared.runtime import open_runtime
from shared.settings import Settings
from tests.edge.api.conftest import MASTER_KEY

pytestmark = pytest.mark.anyio

MASTER = {"authorization": f"Bearer {MASTER_KEY}"}
OWN_PAGES = {"/openapi.json", "/docs"}


@pytest.mark.parametrize("until", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "0"])
async def test_usage_until_long_ago_is_nothing(http: httpx.AsyncClient, until: str):
    """The default span would leave the calendar."""
    usage = await http.get("/v1/usage", params={"until": until})

    assert (200, 0, 0) == (usage.status_code, usage.json()["until"], usage.json()["attempts"])


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/metrics"])
async def test_operations_need_no_key(http: httpx.AsyncClient, path: str):
    del http.headers["authorization"]

    assert 200 == (await http.get(path)).status_code


async def test_health_tells_the_facts(http: httpx.AsyncClient):
    health = (await http.get("/health")).json()

    assert {
        "status": "degraded",
        "degraded": ["redis"],
        "database": "ok",
        "redis": "not configured",
        "in_flight": 0,
    } == health


async def test_without_the_database_it_lives_and_is_not_ready(http: httpx.AsyncClient, edge: Edge):
    """`/health` still answers with 200 and says what is away."""
    await edge.runtime.store.close()

    ready = await http.get("/readyz")

    assert (503, "away") == (ready.status_code, ready.json()["database"])
    assert 200 == (await http.get("/livez")).status_code
    assert (200, "away") == (
        (await http.get("/health")).status_code,
        (await http.get("/health")).json()["database"],
    )


async def test_with_the_database_away_calls_go_on_and_jobs_are_refused(
    http: httpx.AsyncClient, edge: Edge
):
    """Keys of the file are known; the books go to the spool."""
    await edge.runtime.store.close()
    asked = {"model": "mock", "messages": [{"role": "user", "content": "hi"}]}

    call = await http.post("/v1/chat/completions", json=asked)
    job = await http.post("/v1/chat/completions", json=asked, headers={"prefer": "respond-async"})
    usage = await http.get("/v1/usage")

    assert 200 == call.status_code
    for answer in (job, usage):
        assert (503, "store_unavailable") == (
            answer.status_code,
            answer.json()["error"]["code"],
        )
        assert "2" == answer.headers["retry-after"]


async def test_a_stopping_process_is_not_ready(http: httpx.AsyncClient, edge: Edge):
    edge.stopping = True

    ready = await http.get("/readyz")

    assert (503, "stopping") == (ready.status_code, ready.json()["status"])


async def test_metrics_count_what_was_served(http: httpx.AsyncClient):
    await http.post(
        "/v1/chat/completions",
        json={"model": "mock", "messages": [{"role": "user", "content": "hi"}]},
    )

    text = (await http.get("/metrics")).text

    assert "# TYPE sluiceway_" in text
    assert '"/v1/chat/completions"' in text
    assert "acme" not in text, "labels come from closed sets, never from callers"


@pytest.mark.parametrize("path", sorted(OWN_PAGES))
async def test_the_documentation_is_behind_the_master_key(http: httpx.AsyncClient, path: str):
    """A tenant's key does not open it either; it is open in dev only."""
    assert 401 == (await http.get(path)).status_code
    assert 200 == (await http.get(path, headers=MASTER)).status_code


async def test_the_documentation_is_open_in_dev(settings: Settings):
    settings = msgspec.structs.replace(settings, environment="dev")
    async with (
        open_runtime(settings, role="api") as runtime,
        open_edge(runtime) as edge,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(edge)), base_url="http://gateway"
        ) as http,
    ):
        assert 200 == (await http.get("/docs")).status_code
        assert "/v1/chat/completions" in (await http.get("/openapi.json")).json()["paths"]


async def test_openapi_holds_exactly_what_is_served(http: httpx.AsyncClient):
    """Every path and method of the app, the raw inference routes included."""
    document = (await http.get("/openapi.json", headers=MASTER)).json()

    described = {
        (path.replace("{model}", "{}").replace("{job_id}", "{}"), method.upper())
        for path, item in document["paths"].items()
        for method in item
    }
    assert served() == described
    operations = [
        one["operationId"] for item in document["paths"].values() for one in item.values()
    ]
    assert len(operations) == len(set(operations))
    assert "3.1" <= document["openapi"]


async def test_every_described_path_of_callers_and_operators_wants_a_key(http: httpx.AsyncClient):
    """In the document as in truth."""
    document = (await http.get("/openapi.json", headers=MASTER)).json()

    for path, item in document["paths"].items():
        for method, operation in item.items():
            keyed = path.startswith(("/v1/", "/admin/"))
            assert keyed == bool(operation.get("security")), (method, path)


def served() -> set[tuple[str, str]]:
    found = {(endpoint, "POST") for endpoint in ENDPOINTS}
    for route in rest_app().routes:
        if route.path in ENDPOINTS or route.path in OWN_PAGES:
            continue
        path = route.path_format.replace("{model}", "{}").replace("{job_id}", "{}")
        methods = getattr(route, "methods", set())
        found |= {(path, method) for method in methods if method not in {"OPTIONS", "HEAD"}}
    return found
