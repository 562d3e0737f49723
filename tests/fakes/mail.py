"""A mail server on loopback: takes mail over SMTP, with STARTTLS and a password if told so."""

import asyncio
import base64
import email
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.policy import default

import msgspec


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """One mail as it was handed in."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes
    encrypted: bool
    user: str | None

    @property
    def message(self) -> EmailMessage:
        found = email.message_from_bytes(self.data, policy=default)
        assert isinstance(found, EmailMessage)
        return found


class MailServer:
    """What has come so far. `refusals` answer commands, such as `{"RCPT": "550 no"}`."""

    def __init__(self, context: ssl.SSLContext | None, login: tuple[str, str] | None) -> None:
        self.port = 0
        self.mails: list[Mail] = []
        self.refusals: dict[str, str] = {}
        self.context = context
        self.login = login

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _Session(self, reader, writer).serve()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class _Session:
    def __init__(
        self, server: MailServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server, self._reader, self._writer = server, reader, writer
        self._encrypted = False
        self._user: str | None = None
        self._sender = ""
        self._recipients: list[str] = []

    async def serve(self) -> None:
        await self._say("220 here")
        while line := (await self._reader.readline()).decode().strip():
            verb, _, rest = line.partition(" ")
            if (refusal := self._server.refusals.get(verb.upper())) is not None:
                await self._say(refusal)
            elif verb.upper() == "QUIT":
                await self._say("221 bye")
                return
            else:
                await getattr(self, f"_{verb.lower()}")(rest)

    async def _say(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self._writer.drain()

    async def _ehlo(self, _: str) -> None:
        lines = ["250-here"]
        if self._server.context is not None and not self._encrypted:
            lines.append("250-STARTTLS")
        if self._server.login is not None:
            lines.append("250-AUTH PLAIN")
        await self._say(*lines, "250 8BITMIME")

    async def _starttls(self, _: str) -> None:
        assert self._server.context is not None
        await self._say("220 go on")
        await self._writer.start_tls(self._server.context)
        self._encrypted = True

    async def _auth(self, rest: str) -> None:
        user, password = base64.b64decode(rest.split(" ")[1]).decode().split("\0")[1:]
        if (user, password) != self._server.login:
            await self._say("535 no")
            return
        self._user = user
        await self._say("235 yes")

    async def _mail(self, rest: str) -> None:
        if self._server.login is not None and self._user is None:
            await self._say("530 who are you")
            return
        self._sender, self._recipients = _address(rest), []
        await self._say("250 ok")

    async def _rcpt(self, rest: str) -> None:
        self._recipients.append(_address(rest))
        await self._say("250 ok")

    async def _rset(self, _: str) -> None:
        await self._say("250 ok")

    async def _data(self, _: str) -> None:
        await self._say("354 go on")
        data = (await self._reader.readuntil(b"\r\n.\r\n"))[:-3]
        self._server.mails.append(
            Mail(
                sender=self._sender,
                recipients=tuple(self._recipients),
                data=data.replace(b"\r\n..", b"\r\n."),
                encrypted=self._encrypted,
                user=self._user,
            )
        )
        await self._say("250 taken")


def _address(rest: str) -> str:
    return rest.partition("<")[2].partition(">")[0]


@asynccontextmanager
async def running_mail_server(
    *, context: ssl.SSLContext | None = None, login: tuple[str, str] | None = None
) -> AsyncIterator[MailServer]:
    """A mail server on a port chosen by the system, for the length of the block."""
    mail_server = MailServer(context, login)
    server = await asyncio.start_server(mail_server.accept, "127.0.0.1", 0)
    mail_server.port = server.sockets[0].getsockname()[1]
    try:
        yield mail_server
    finally:
        server.close()
