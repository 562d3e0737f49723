"""Two tenants, and files of at most 24 MB where bodies have at most 1."""

import httpx
import openai
import pytest

from api.app import create_app
from api.edge import Edge
from tests.edge.api.conftest import CONFIG, KEY

OTHER_KEY = "sk-other-0123456789abcdef"


@pytest.fixture
def settings(settings, tmp_path):
    """The usual, with another tenant and small files."""
    (tmp_path / "sluiceway.yaml").write_text(
        CONFIG.replace(
            "tenants: [", f"tenants: [{{id: other, keys: [{{name: ci, key: {OTHER_KEY}}}]}}, "
        )
        + "files: {max_upload_mb: 24}\n"
    )
    return settings


@pytest.fixture
async def other(edge: Edge):
    """The other tenant's client."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(edge)),
        base_url="http://gateway",
        headers={"authorization": f"Bearer {OTHER_KEY}"},
    ) as client:
        yield client


@pytest.fixture
def sdk(http):
    """OpenAI's own client."""
    return openai.AsyncOpenAI(
        api_key=KEY, base_url="http://gateway/v1", http_client=http, max_retries=0
    )
