"""Keys never reach logs, answers or the database."""

import openai
import pytest
from openai import OpenAI

from tests.fakes.stack import MASTER_KEY
from tests.fakes.upstream import status
from tests.flows.conftest import KEY, OTHER_KEY, SECRET, UPSTREAM_KEY, Line

HELLO = [{"role": "user", "content": "hello"}]
GUESS = "sk-guess-0123456789abcdef"


@pytest.mark.behaviour(141)
def test_keys_are_nowhere(line: Line, client: OpenAI, request_id: str):
    """Not after a provider has said the key back to us, not after a wrong or a master key."""
    leak = {"message": f"Incorrect API key provided: {UPSTREAM_KEY}", "code": "invalid_api_key"}
    line.vendor.always("alpha", status(401, leak))
    said = []
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="alpha", messages=HELLO, stream=stream)
        said.append(caught.value.response.text)
    for key in (GUESS, MASTER_KEY):
        with line.client(key) as stranger, pytest.raises(openai.APIStatusError) as caught:
            stranger.chat.completions.create(model="alpha", messages=HELLO)
        said.append(caught.value.response.text)
    raw = client.chat.completions.with_raw_response.create(
        model="alpha",
        messages=HELLO,
        extra_headers={"prefer": "respond-async, wait=1", "x-request-id": request_id},
    )
    said.append(raw.text)
    line.stack.wait_for_ledger(request_id)

    texts = {
        str(path.relative_to(line.stack.home)): path.read_bytes()
        for path in line.stack.home.rglob("*")
        if path.is_file() and path.name != "sluiceway.yaml"
    }
    assert any(name.startswith("sluiceway.db") for name in texts)
    assert any(name.endswith(".log") for name in texts)
    secret_key = line.stack.env["SLUICEWAY_SECRET_KEY"]
    for secret in (KEY, OTHER_KEY, UPSTREAM_KEY, MASTER_KEY, GUESS, secret_key):
        assert [] == [name for name, text in texts.items() if secret.encode() in text]
        assert not any(secret in text for text in said)
    for name, text in texts.items():
        if name.endswith(".log"):
            assert SECRET.encode() not in text
