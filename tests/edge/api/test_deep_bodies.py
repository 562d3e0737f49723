"""A body that one reader can just take, and the next can not."""

import httpx
import pytest

pytestmark = pytest.mark.anyio

HI = b'"messages": [{"role": "user", "content": "hi"}], '
TOOL = b'[{"type": "function", "function": {"name": "f", "parameters": %b}}]'
BODIES = {
    "metadata": ("/v1/chat/completions", HI + b'"metadata": {"a": %b}'),
    "a tool": ("/v1/chat/completions", HI + b'"tools": ' + TOOL),
    "a form": ("/v1/chat/completions", HI + b'"response_format": {"type": "x", "y": %b}'),
    "an unknown field": ("/v1/chat/completions", HI + b'"x": %b'),
    "a completion": ("/v1/completions", b'"prompt": "hi", "x": %b'),
    "a response": ("/v1/responses", b'"input": "hi", "x": %b'),
    "an item": ("/v1/responses", b'"input": [{"role": "user", "content": "hi", "x": %b}]'),
    "a message": ("/v1/messages", b'"max_tokens": 9, ' + HI + b'"x": %b'),
}


@pytest.mark.parametrize("name", BODIES)
async def test_no_depth_is_a_500(http: httpx.AsyncClient, name: str):
    path, form = BODIES[name]
    told = set()
    for depth in (*range(100, 900, 100), *range(900, 1_000, 3)):
        body = b'{"model": "mock", %b}' % (form % (b'{"a":' * depth + b"1" + b"}" * depth))
        answer = await http.post(path, content=body, headers={"content-type": "application/json"})
        told.add(answer.status_code)
        if answer.status_code == 400:
            assert "The body is nested too deeply." in answer.text

    assert told <= {200, 400}
    assert 400 in told
