"""What the headers of a call may say."""

from collections.abc import Iterator

import anyio
import httpx
import pytest

from api.call import MAX_WAIT_S, Preference, preference
from api.edge import Edge

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
ASKED = {"model": "mock", "messages": [{"role": "user", "content": "hi"}]}
WAITS_5 = Preference(respond_async=True, wait_s=5)
ASYNC = Preference(respond_async=True)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], Preference()),
        (["respond-async"], ASYNC),
        (["respond-async, wait=5"], WAITS_5),
        (["wait=5,respond-async"], WAITS_5),
        (["respond-async; wait=5"], WAITS_5),
        (["respond-async", "wait=5"], WAITS_5),
        (["handling=lenient", "Respond-Async ; Wait = 5"], WAITS_5),
        (['respond-async, wait="5"'], WAITS_5),
        (["respond-async;;, ,wait=5"], WAITS_5),
        (["respond-async, wait=5, wait=9"], WAITS_5),
        (["respond-async, wait=600"], Preference(respond_async=True, wait_s=MAX_WAIT_S)),
        (["respond-async, wait=" + "9" * 5000], Preference(respond_async=True, wait_s=MAX_WAIT_S)),
        (["respond-async, wait=soon"], ASYNC),
        (["respond-async, wait=²"], ASYNC),
        (["wait=5"], Preference()),
        (["handling=lenient; respond-async"], Preference()),
        (['note="a, respond-async"'], Preference()),
        (['note="a, respond-async'], Preference()),
        (['note="a\\", respond-async, "', "respond-async"], ASYNC),
        (['note="' + '\\"' * 30_000 + "\\"], Preference()),
        (["", ",;,"], Preference()),
    ],
)
def test_prefer_is_read_as_rfc_7240_says(lines: list[str], expected: Preference):
    pairs = [(b"host", b"x"), *((b"prefer", line.encode("latin-1")) for line in lines)]

    assert expected == preference(pairs)


async def test_prefer_may_come_in_several_lines(http: httpx.AsyncClient):
    answer = await http.post(
        CHAT,
        json=ASKED,
        headers=[("prefer", "handling=lenient"), ("prefer", "respond-async"), ("prefer", "wait=0")],
    )

    assert (202, "respond-async") == (answer.status_code, answer.headers["preference-applied"])


@pytest.mark.parametrize("length", ["0.01", "0.04", "0.000001"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_time_too_short_for_any_call_is_the_callers(
    http: httpx.AsyncClient, length: str, stream: object
):
    answer = await http.post(
        CHAT, json={**ASKED, "stream": stream}, headers={"x-sluiceway-timeout": length}
    )

    assert (504, "deadline_exceeded") == (answer.status_code, answer.json()["error"]["code"])
    assert "false" == answer.headers["x-should-retry"]


async def test_calls_are_counted_though_their_callers_id_repeats(
    http: httpx.AsyncClient, edge: Edge
):
    """The id comes back as it was sent; the books keep calls apart and begin theirs with it."""
    answers = [
        await http.post(CHAT, json=ASKED, headers={"x-request-id": "again"}) for _ in range(3)
    ]
    own = await http.post(CHAT, json=ASKED)
    ids = set(_kept_ids(edge))

    assert ["again"] * 3 == [answer.headers["x-request-id"] for answer in answers]
    assert 4 == len(ids)
    assert 3 == sum(one.startswith("again/req_") for one in ids)
    assert own.headers["x-request-id"] in ids
    with anyio.fail_after(5):
        while (usage := (await http.get("/v1/usage")).json())["attempts"] < len(ids):  # noqa: ASYNC110
            await anyio.sleep(0.05)
    assert 4 == usage["requests"]


def _kept_ids(edge: Edge) -> Iterator[str]:
    """Yield the request ids in the spool."""
    for path in (edge.runtime.settings.data_dir / "spool").rglob("*"):
        if path.is_file():
            for line in path.read_bytes().split(b"\n"):
                start = line.find(b'"request_id":"')
                if start >= 0:
                    yield line[start + 14 :].split(b'"')[0].decode()
