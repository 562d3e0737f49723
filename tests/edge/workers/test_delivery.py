"""One webhook attempt on real sockets: signed, bounded, and never where it must not go."""

import asyncio
import socket
from datetime import UTC, datetime

import msgspec
import pytest
from aiohttp.abc import AbstractResolver
from standardwebhooks import Webhook

from shared.clock import SystemClock
from shared.store.records import DeliveryRow
from shared.webhooks.delivery import Post, deliver
from shared.webhooks.egress import networks
from shared.webhooks.posting import KEPT_BYTES, retry_after_s
from tests.edge.workers.receiver import Response, respond

pytestmark = pytest.mark.anyio

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOOPBACK = Post(allowed=networks(["127.0.0.0/8"]))
BODY = b'{"type":"job.succeeded","data":{"id":"job_1"}}'


def make_delivery(url) -> DeliveryRow:
    return DeliveryRow(
        id="dlv_1",
        event_id="evt_1",
        tenant_id="acme",
        url=url,
        status="delivering",
        event_type="job.succeeded",
        body=BODY,
    )


async def sent(url, post=LOOPBACK, secrets=(SECRET,)):
    return await deliver(make_delivery(url), post, secrets=secrets, clock=SystemClock())


class Names(AbstractResolver):
    """A name server whose answers change: what it says first, then, and so on."""

    def __init__(self, *answers) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked += 1
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in addresses
        ]

    async def close(self):
        pass


async def test_the_receiver_gets_the_very_bytes_that_were_signed(receiver):
    outcome = await sent(receiver.url())

    [call] = receiver.received
    assert (200, b"ok", True) == (outcome.status_code, outcome.answer_head, outcome.delivered)
    assert ("POST", "/hook", BODY) == (call.method, call.path, call.body)
    assert "application/json" == call.headers["content-type"]
    assert "evt_1" == call.id
    Webhook(SECRET).verify(call.body, call.headers)


@pytest.mark.parametrize("status", [400, 404, 410, 429, 500, 503])
async def test_other_statuses_are_failures_with_their_status(receiver, status):
    receiver.script("/hook", respond(status, b"no"))

    outcome = await sent(receiver.url())

    assert (status, False) == (outcome.status_code, outcome.delivered)


async def test_a_redirect_is_a_failure_and_not_followed(receiver):
    receiver.script("/hook", respond(302, location=receiver.url("/elsewhere")))

    outcome = await sent(receiver.url())

    assert (302, False) == (outcome.status_code, outcome.delivered)
    assert ["/hook"] == [call.path for call in receiver.received]


async def test_retry_after_comes_back(receiver):
    receiver.script("/hook", respond(429, retry_after="120"))

    assert 120.0 == (await sent(receiver.url())).retry_after_s


async def test_a_receiver_that_never_answers_costs_the_timeout(receiver):
    receiver.script("/hook", Response(hang=True))

    outcome = await sent(receiver.url(), msgspec.structs.replace(LOOPBACK, timeout_s=0.2))

    assert "no answer within 0.2 s" == outcome.error
    assert 150 <= outcome.duration_ms < 5_000


async def test_an_endless_answer_is_read_to_its_cap_only(receiver):
    receiver.script("/hook", respond(200, b"x" * 1_000_000))

    outcome = await sent(receiver.url())

    assert (True, KEPT_BYTES) == (outcome.delivered, len(outcome.answer_head))


async def test_an_answer_cut_short_was_an_answer(receiver):
    receiver.script("/hook", Response(body=b"cut", cut=True))

    outcome = await sent(receiver.url())

    assert (True, b"cut") == (outcome.delivered, outcome.answer_head)


async def test_a_port_without_a_listener_is_a_failure_without_status():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        outcome = await sent(f"http://127.0.0.1:{unused.getsockname()[1]}/")

    assert outcome.status_code is None
    assert outcome.error is not None


@pytest.mark.parametrize("secrets", [(), ("not a secret",)])
async def test_without_a_secret_nothing_is_sent(receiver, secrets):
    outcome = await sent(receiver.url(), secrets=secrets)

    assert outcome.error.startswith("not signed")
    assert [] == receiver.received


# Where it must not go


@pytest.mark.behaviour(195)
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "127.0.0.1.",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_spelling_of_loopback_is_reached(receiver, scheme, host):
    """The canary on loopback never sees a connection."""
    await sent(f"{scheme}://{host}:{receiver.port}/hook", Post(timeout_s=3.0))

    assert 0 == receiver.connections


async def test_a_refusal_says_so():
    outcome = await sent("https://127.0.0.1:1/", Post())

    assert "refused: 127.0.0.1 is not a public address" == outcome.error


async def test_a_name_with_one_bad_address_among_good_ones_is_refused(receiver):
    post = Post(names=Names(["8.8.8.8", "127.0.0.1"]))

    outcome = await sent(f"https://a.example:{receiver.port}/", post)

    assert outcome.error.startswith("refused: 127.0.0.1")
    assert 0 == receiver.connections


async def test_a_name_that_is_bound_anew_is_checked_anew(receiver):
    """The name is asked once per attempt, and what it answers is what is dialled or refused."""
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    post = Post(names=names, allowed=networks(["127.0.0.1"]), timeout_s=2.0)
    url = f"http://a.example:{receiver.port}/hook"

    first, second = await sent(url, post), await sent(url, post)

    assert first.error.startswith("refused: 127.0.0.2")
    assert second.delivered
    assert (2, 1) == (names.asked, receiver.connections)


async def test_plain_http_reaches_allowed_networks_only():
    """Through the public network a webhook is encrypted."""
    outcome = await sent("http://a.example/", Post(names=Names(["8.8.8.8"]), timeout_s=2.0))

    assert "refused: 8.8.8.8 is reached by https only" == outcome.error


async def test_a_proxy_of_the_environment_is_not_used(receiver, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert (await sent(receiver.url())).delivered


@pytest.mark.behaviour(195)
async def test_many_at_once(receiver):
    outcomes = await asyncio.gather(*(sent(receiver.url()) for _ in range(50)))

    assert all(outcome.delivered for outcome in outcomes)


@pytest.mark.parametrize(
    ("value", "length_s"),
    [
        (None, None),
        ("120", 120.0),
        ("1.5", 1.5),
        ("-5", 0.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("Thu, 31 Jan 2030 12:01:00 GMT", 60.0),
        ("Thu, 31 Jan 2030 11:00:00 GMT", 0.0),
        ("Thu, 31 Jan 2030", None),
    ],
)
def test_retry_after(value, length_s):
    assert length_s == retry_after_s(value, datetime(2030, 1, 31, 12, tzinfo=UTC))
