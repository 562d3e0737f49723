"""The API in this process, over ASGI: no socket, no worker, a fresh SQLite file."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.edge import Edge
from api.main import open_edge
from shared.runtime import open_runtime
from shared.settings import Settings, load_settings

KEY = "sk-edge-0123456789abcdef"
MASTER_KEY = "sk-master-0123456789abcdef"
CONFIG = f"""
version: 1
providers: {{mock: {{kind: mock}}}}
routes:
  - model: mock
    aliases: [team/mock]
    targets: [{{provider: mock, model: mock-1}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
    retry: {{max_attempts: 1}}
tenants: [{{id: acme, keys: [{{name: ci, key: {KEY}}}]}}]
server: {{max_body_mb: 1}}
queue: {{max_queued_per_tenant: 3}}
"""


@pytest.fixture
def settings(tmp_path: Path, sqlite_url: str) -> Settings:
    config = tmp_path / "sluiceway.yaml"
    config.write_text(CONFIG)
    return load_settings(
        {
            "SLUICEWAY_CONFIG": str(config),
            "SLUICEWAY_DATA_DIR": str(tmp_path / "data"),
            "SLUICEWAY_DATABASE_URL": sqlite_url,
            "SLUICEWAY_SECRET_KEY": "the-tests-own-secret-key-0123456789",
            "SLUICEWAY_MASTER_KEY": MASTER_KEY,
        }
    )


@pytest.fixture
async def edge(settings: Settings) -> AsyncIterator[Edge]:
    async with open_runtime(settings, role="api") as runtime, open_edge(runtime) as opened:
        yield opened


@pytest.fixture
async def http(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the tenant's key."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(edge)),
        base_url="http://gateway",
        headers={"authorization": f"Bearer {KEY}"},
    ) as client:
        yield client
