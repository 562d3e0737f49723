"""An asyncio transport without a socket: it keeps what was written and does what it is told."""

import asyncio

from typing_extensions import override


class PipeTransport(asyncio.Transport):
    """`ended` says how it was closed: with a goodbye (`close`) or at once (`abort`)."""

    def __init__(self):
        super().__init__()
        self.written = b""
        self.writes = 0
        self.unsent_bytes = 0
        self.ended = None
        self.paused = False

    @override
    def write(self, data):
        self.written += bytes(data)
        self.writes += 1

    @override
    def get_write_buffer_size(self):
        return self.unsent_bytes

    @override
    def is_closing(self):
        return self.ended is not None

    @override
    def close(self):
        self.ended = self.ended or "close"

    @override
    def abort(self):
        self.ended = self.ended or "abort"

    @override
    def pause_reading(self):
        self.paused = True

    @override
    def resume_reading(self):
        self.paused = False
