"""`/v1/models`: what a key may ask for, by OpenAI's own client and by hand."""

import httpx
import openai
import pytest

from tests.edge.api.gateways import URL, gateway, sdk
from tests.fakes.upstream import running_upstream

NARROW = "sk-narrow-0123456789abcdef"
DIRECT = "sk-direct-0123456789abcdef"


@pytest.fixture
async def upstream():
    async with running_upstream() as started:
        yield started


@pytest.fixture
async def http(upstream, tmp_path, sqlite_url):
    def route(model, **more):
        return {"model": model, "targets": [{"provider": "up", "model": "m"}], **more}

    config = {
        "providers": {"up": {"kind": "openai_compatible", "base_url": upstream.base_url()}},
        "routes": [route("plain", aliases=["vendor/name:tag"]), route("a/b"), route("any/*")],
    }
    more = [
        {"name": "narrow", "key": NARROW, "models": ["plain", "any/x*"]},
        {"name": "direct", "key": DIRECT, "scopes": ["provider_models"]},
    ]
    async with gateway(tmp_path, sqlite_url, config, keys=more) as client:
        yield client


def as_key(http, key):
    http.headers["authorization"] = f"Bearer {key}"
    return openai.AsyncOpenAI(api_key=key, base_url=f"{URL}/v1", http_client=http, max_retries=0)


@pytest.mark.behaviour(188)
async def test_a_key_sees_every_route_and_alias(http):
    found = [model.id async for model in await sdk(http).models.list()]

    assert ["plain", "a/b", "vendor/name:tag"] == found


@pytest.mark.behaviour(188)
async def test_a_narrow_key_sees_what_it_may_use(http):
    client = as_key(http, NARROW)

    assert ["plain", "vendor/name:tag"] == [model.id async for model in await client.models.list()]
    assert "any/x1" == (await client.models.retrieve("any/x1")).id
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("a/b")
    assert "model_not_found" == caught.value.code


@pytest.mark.parametrize(
    ("model", "status"), [("plain", 200), ("vendor/name:tag", 200), ("any/x1", 200), ("a/b", 404)]
)
async def test_a_narrow_key_may_ask_for_no_more_than_it_sees(http, model, status):
    asked = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": f"Bearer {NARROW}"}

    answer = await http.post("/v1/chat/completions", json=asked, headers=headers)

    assert status == answer.status_code


@pytest.mark.behaviour(188)
@pytest.mark.parametrize(
    "path", ["vendor/name:tag", "vendor%2Fname:tag", "vendor%2Fname%3Atag", "vendor/name%3Atag"]
)
async def test_ids_with_slashes_and_colons(http: httpx.AsyncClient, path):
    answer = await http.get(f"/v1/models/{path}")

    assert (200, "vendor/name:tag") == (answer.status_code, answer.json()["id"])


async def test_ids_by_the_sdk(http):
    """It encodes the slash, not the colon."""
    found = await sdk(http).models.retrieve("vendor/name:tag")

    assert ("vendor/name:tag", "model", "up") == (found.id, found.object, found.owned_by)


async def test_a_model_that_is_addressed_by_its_provider(http):
    """A key with the scope may look at what it may ask."""
    assert "up" == (await as_key(http, DIRECT).models.retrieve("up/llama:8b")).owned_by
