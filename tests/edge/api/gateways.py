"""A gateway in this process with a config of the test's own, and clients of it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import openai

from api.app import create_app
from api.main import open_edge
from shared.runtime import open_runtime
from shared.settings import load_settings
from tests.edge.api.conftest import KEY

URL = "http://gateway"


@asynccontextmanager
async def gateway(
    folder: Path,
    database_url: str,
    config: Mapping[str, object],
    *,
    keys: Sequence[Mapping[str, object]] = (),
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client with the tenant's key; `config` lacks only its version and the tenant.

    `keys` are more of the tenant's, `env` is more of the environment.
    """
    path = folder / "sluiceway.yaml"
    tenants = [{"id": "acme", "keys": [{"name": "ci", "key": KEY}, *keys]}]
    path.write_bytes(msgspec.json.encode({"version": 1, "tenants": tenants, **config}))
    settings = load_settings(
        {
            "SLUICEWAY_CONFIG": str(path),
            "SLUICEWAY_DATA_DIR": str(folder / "data"),
            "SLUICEWAY_DATABASE_URL": database_url,
            "SLUICEWAY_SECRET_KEY": "the-tests-own-secret-key-0123456789",
            **(env or {}),
        }
    )
    async with (
        open_runtime(settings, role="api") as runtime,
        open_edge(runtime) as edge,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(edge)),
            base_url=URL,
            headers={"authorization": f"Bearer {KEY}"},
        ) as client,
    ):
        yield client


def one_route(provider: Mapping[str, object], model: str = "m", **route: object) -> dict:
    """The config of one provider with one route, `chat`, that is tried once."""
    target = {"provider": "vendor", "model": model}
    retry = {"max_attempts": 1}
    return {
        "providers": {"vendor": provider},
        "routes": [{"model": "chat", "targets": [target], "retry": retry, **route}],
    }


def sdk(http: httpx.AsyncClient) -> openai.AsyncOpenAI:
    """OpenAI's own client over that one."""
    return openai.AsyncOpenAI(api_key=KEY, base_url=f"{URL}/v1", http_client=http, max_retries=0)
