"""A gateway over a scripted OpenAI-compatible provider, called by Anthropic's own SDK."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anthropic
import httpx
import httpx2
import msgspec

from api.app import create_app
from api.edge import Edge
from api.front import Front
from api.main import open_edge
from shared.runtime import open_runtime
from shared.settings import load_settings
from tests.edge.api.conftest import KEY

URL = "http://gateway"


class Line:
    """An API in this process, and ways to call it."""

    def __init__(self, edge: Edge, app: Front, http: httpx.AsyncClient) -> None:
        self.edge = edge
        self.app = app
        self.http = http

    @asynccontextmanager
    async def sdk(
        self, *, key: str = KEY, headers: Mapping[str, str] | None = None, bearer: bool = False
    ) -> AsyncIterator[anthropic.AsyncAnthropic]:
        """Yield Anthropic's client; `bearer` sends the key as 2.x does, else as older ones do."""
        old = {} if bearer else {"x-api-key": key}
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app)) as http:
            yield anthropic.AsyncAnthropic(
                base_url=URL,
                api_key=None if bearer else key,
                auth_token=key if bearer else None,
                http_client=http,
                max_retries=0,
                default_headers={**old, **(headers or {})},
            )


@asynccontextmanager
async def line(
    folder: Path, database_url: str, config: Mapping[str, object]
) -> AsyncIterator[Line]:
    """Open the API on a config of the test's own; it lacks only its version and the tenant."""
    path = folder / "sluiceway.yaml"
    tenants = [{"id": "acme", "keys": [{"name": "ci", "key": KEY}]}]
    path.write_bytes(msgspec.json.encode({"version": 1, "tenants": tenants, **config}))
    settings = load_settings(
        {
            "SLUICEWAY_CONFIG": str(path),
            "SLUICEWAY_DATA_DIR": str(folder / "data"),
            "SLUICEWAY_DATABASE_URL": database_url,
            "SLUICEWAY_SECRET_KEY": "the-tests-own-secret-key-0123456789",
        }
    )
    async with open_runtime(settings, role="api") as runtime, open_edge(runtime) as edge:
        app = create_app(edge)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url=URL,
            headers={"authorization": f"Bearer {KEY}"},
        ) as http:
            yield Line(edge, app, http)


def routes(*providers: tuple[str, Mapping[str, object]], **route: object) -> dict[str, object]:
    """The config of some providers, each with a route of its name that is tried once."""
    return {
        "providers": dict(providers),
        "routes": [
            {
                "model": name,
                "targets": [{"provider": name, "model": "m-1"}],
                "retry": {"max_attempts": 1},
                **route,
            }
            for name, _ in providers
        ],
    }
