"""A server that speaks as much AMQP 0-9-1 as Dramatiq's RabbitMQ broker asks for.

Needs pika, whose codecs it uses. Queues live in memory and outlive connections; messages that
were not acknowledged when one ends go back, as RabbitMQ does it.
"""

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import singledispatchmethod

from pika import frame, spec

START_S = 10.0
FRAME_BYTES = 131_072


class AmqpServer:
    """Listens on a port of the system's choice."""

    def __init__(self) -> None:
        self.port = 0
        self.queues: dict[str, deque[bytes]] = defaultdict(deque)
        self.connections: set[Connection] = set()

    async def listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, writer)
        self.connections.add(connection)
        try:
            await connection.serve(reader)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self.connections.discard(connection)
            connection.give_back()
            writer.transport.abort()

    def deliver(self) -> None:
        """Hand out what waits to consumers that have room."""
        for connection in self.connections:
            connection.deliver()


class Channel:
    """What the server remembers of a channel."""

    def __init__(self) -> None:
        self.confirms = False
        self.published = 0
        self.publishing: tuple[str, bytes, int] = ("", b"", 0)
        self.consumers: dict[str, str] = {}
        self.room = 0
        self.tag = 0
        self.out: dict[int, tuple[str, bytes]] = {}


class Connection:
    """One client's."""

    def __init__(self, server: AmqpServer, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._writer = writer
        self._channels: dict[int, Channel] = defaultdict(Channel)
        self._number = 0
        self._open = True

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Answer frames until the client goes."""
        data = b""
        while self._open and (more := await reader.read(65536)):
            data += more
            while True:
                size, found = frame.decode_frame(data)
                if found is None:
                    break
                data = data[size:]
                self._number = getattr(found, "channel_number", 0)
                self._take(getattr(found, "method", found))
            await self._writer.drain()

    def give_back(self) -> None:
        """Queue again what was handed out and not acknowledged."""
        for channel in self._channels.values():
            for queue, body in reversed(channel.out.values()):
                self._server.queues[queue].appendleft(body)
            channel.out.clear()

    def deliver(self) -> None:
        for number, channel in self._channels.items():
            for consumer, queue in channel.consumers.items():
                waiting = self._server.queues[queue]
                while waiting and len(channel.out) < channel.room:
                    channel.tag += 1
                    channel.out[channel.tag] = (queue, body := waiting.popleft())
                    head = spec.Basic.Deliver(
                        consumer_tag=consumer,
                        delivery_tag=channel.tag,
                        exchange="",
                        routing_key=queue,
                    )
                    self._send(head, number)
                    header = frame.Header(number, len(body), spec.BasicProperties())
                    self._writer.write(header.marshal() + frame.Body(number, body).marshal())

    def _send(self, method, number: int | None = None) -> None:
        number = self._number if number is None else number
        self._writer.write(frame.Method(number, method).marshal())

    @singledispatchmethod
    def _take(self, method) -> None:
        raise AssertionError(f"our broker is not known to use {method}")

    @_take.register(frame.ProtocolHeader)
    def _(self, _) -> None:
        able = {"publisher_confirms": True, "basic.nack": True, "consumer_cancel_notify": True}
        self._send(
            spec.Connection.Start(
                server_properties={"capabilities": able}, mechanisms=b"PLAIN", locales=b"en_US"
            )
        )

    @_take.register(spec.Connection.StartOk)
    def _(self, _) -> None:
        self._send(spec.Connection.Tune(channel_max=100, frame_max=FRAME_BYTES, heartbeat=0))

    @_take.register(spec.Connection.TuneOk)
    @_take.register(frame.Heartbeat)
    def _(self, _) -> None:
        pass

    @_take.register(spec.Connection.Open)
    def _(self, _) -> None:
        self._send(spec.Connection.OpenOk())

    @_take.register(spec.Connection.Close)
    def _(self, _) -> None:
        self._send(spec.Connection.CloseOk())
        self._open = False

    @_take.register(spec.Channel.Open)
    def _(self, _) -> None:
        self._send(spec.Channel.OpenOk())

    @_take.register(spec.Channel.Close)
    def _(self, _) -> None:
        self.give_back()
        del self._channels[self._number]
        self._send(spec.Channel.CloseOk())

    @_take.register(spec.Confirm.Select)
    def _(self, _) -> None:
        self._channel.confirms = True
        self._send(spec.Confirm.SelectOk())

    @_take.register(spec.Basic.Qos)
    def _(self, method) -> None:
        self._channel.room = method.prefetch_count
        self._send(spec.Basic.QosOk())

    @_take.register(spec.Queue.Declare)
    def _(self, method) -> None:
        waiting = len(self._server.queues[method.queue])
        self._send(spec.Queue.DeclareOk(method.queue, waiting, 0))

    @_take.register(spec.Basic.Consume)
    def _(self, method) -> None:
        self._channel.consumers[method.consumer_tag] = method.queue
        self._send(spec.Basic.ConsumeOk(method.consumer_tag))
        self._server.deliver()

    @_take.register(spec.Basic.Cancel)
    def _(self, method) -> None:
        self._channel.consumers.pop(method.consumer_tag, None)
        self._send(spec.Basic.CancelOk(method.consumer_tag))

    @_take.register(spec.Basic.Publish)
    def _(self, method) -> None:
        self._channel.publishing = (method.routing_key, b"", 0)

    @_take.register(frame.Header)
    def _(self, header) -> None:
        queue, _, _ = self._channel.publishing
        self._channel.publishing = (queue, b"", header.body_size)

    @_take.register(frame.Body)
    def _(self, body) -> None:
        channel = self._channel
        queue, begun, size = channel.publishing
        channel.publishing = (queue, whole := begun + body.fragment, size)
        if len(whole) < size:
            return
        channel.published += 1
        known = queue in self._server.queues
        if known:
            self._server.queues[queue].append(whole)
        elif channel.confirms:  # all that is published here is mandatory
            self._send(spec.Basic.Return(312, "NO_ROUTE", "", queue))
            header = frame.Header(self._number, size, spec.BasicProperties())
            self._writer.write(header.marshal() + frame.Body(self._number, whole).marshal())
        if channel.confirms:
            self._send(spec.Basic.Ack(channel.published))
        self._server.deliver()

    @_take.register(spec.Basic.Ack)
    def _(self, method) -> None:
        self._channel.out.pop(method.delivery_tag, None)
        self._server.deliver()

    @_take.register(spec.Basic.Nack)
    def _(self, method) -> None:
        queue, body = self._channel.out.pop(method.delivery_tag)
        if method.requeue:
            self._server.queues[queue].appendleft(body)
        self._server.deliver()

    @property
    def _channel(self) -> Channel:
        return self._channels[self._number]


@contextmanager
def running_amqp() -> Iterator[AmqpServer]:
    """Yield a server with no queues, in a thread that ends with the block."""
    server = AmqpServer()
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    async def serve() -> None:
        listening = await server.listen()
        started.set()
        await stopping.wait()
        listening.close()
        for connection in list(server.connections):
            connection._writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    if not started.wait(START_S):
        raise RuntimeError("the AMQP server did not start")
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(START_S)
        loop.close()
