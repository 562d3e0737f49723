"""From names to sockets: asked once, raced fairly, and no socket left behind."""

import asyncio
import socket
from contextlib import ExitStack

import pytest

from shared.clock import SystemClock
from shared.providers.http1_dial import DNS_TTL_S, Address, Names, dial, in_turn
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def wire():
    """Nothing here is a client of its own."""


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def places():
    """Addresses of this machine: one that listens, one that refuses, one that never answers."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        refusing = stack.enter_context(socket.socket())
        refusing.bind(("127.0.0.1", 0))
        silent = stack.enter_context(socket.socket())
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        stack.enter_context(socket.create_connection(silent.getsockname()))
        second = stack.enter_context(socket.socket())
        second.setblocking(False)  # noqa: FBT003
        second.connect_ex(silent.getsockname())
        yield {
            name: Address(V4, sock.getsockname())
            for name, sock in [("good", listening), ("refuses", refusing), ("silent", silent)]
        }


@pytest.mark.parametrize(
    "order",
    [["good"], ["refuses", "good"], ["silent", "good"], ["silent", "refuses", "good", "good"]],
    ids="-".join,
)
async def test_the_first_address_that_answers_wins(places, order):
    """A silent one costs its head start, not the whole time for connecting."""
    async with asyncio.timeout(2.0):
        sock = await dial([places[name] for name in order])

    assert places["good"].place == sock.getpeername()
    sock.close()


@pytest.mark.parametrize("order", [["refuses"], ["refuses", "refuses"], []], ids=str)
async def test_no_address_that_answers_is_an_error(places, order):
    with pytest.raises(OSError, match=r"refused|Connect call failed|no address"):
        await dial([places[name] for name in order])


@pytest.mark.parametrize("order", [["silent"], ["silent", "silent"]], ids=str)
async def test_dialling_can_be_given_up(places, order):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await dial([places[name] for name in order])


def test_families_take_turns():
    addresses = [Address(V6, (n,)) for n in (1, 2, 3)] + [Address(V4, (n,)) for n in (4, 5)]

    assert [1, 4, 2, 5, 3] == [address.place[0] for address in in_turn(addresses)]
    assert () == in_turn([])


class Directory:
    """Answers look-ups when it is told to."""

    def __init__(self):
        self.asked = 0
        self.ready = asyncio.Event()
        self.fails = False

    async def look_up(self, host, port):
        self.asked += 1
        await self.ready.wait()
        if self.fails:
            raise socket.gaierror(socket.EAI_NONAME, host)
        return (Address(V4, (host, port)),)


async def test_a_name_is_asked_for_once_by_all_who_wait():
    """And the end of one of them is not the end of the look-up."""
    directory = Directory()
    names = Names(FakeClock(), directory.look_up)
    waiting = [asyncio.create_task(names.addresses("gpu", 80)) for _ in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    directory.ready.set()

    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert [(Address(V4, ("gpu", 80)),)] * 49 == found[1:]
    assert 1 == directory.asked


async def test_a_name_is_remembered_for_a_minute_unless_nobody_answers():
    directory = Directory()
    directory.ready.set()
    clock = FakeClock()
    names = Names(clock, directory.look_up)
    asked = []
    for step in [lambda: None, lambda: clock.advance(DNS_TTL_S - 1), lambda: clock.advance(1)]:
        step()
        await names.addresses("gpu", 80)
        asked.append(directory.asked)
    names.forget("gpu", 80)
    await names.addresses("gpu", 80)

    assert ([1, 1, 2], 3) == (asked, directory.asked)


async def test_a_name_that_is_none_is_asked_for_again():
    directory = Directory()
    directory.ready.set()
    directory.fails = True
    names = Names(FakeClock(), directory.look_up)
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            await names.addresses("gpu", 80)

    assert 2 == directory.asked


async def test_closing_ends_what_is_being_asked():
    names = Names(FakeClock(), Directory().look_up)
    waiting = asyncio.create_task(names.addresses("gpu", 80))
    await asyncio.sleep(0)
    await names.aclose()

    assert [True] == [
        isinstance(each, asyncio.CancelledError)
        for each in await asyncio.gather(waiting, return_exceptions=True)
    ]


@pytest.mark.parametrize("host", ["." * 3, "a" * 64 + ".example", "no-such-host.invalid"])
async def test_what_is_no_name_is_not_found(host):
    with pytest.raises(socket.gaierror):
        await Names(SystemClock()).addresses(host, 80)
