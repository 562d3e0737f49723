"""Events as mail: smtplib, in threads of its own."""

import asyncio
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from shared.config.mail import MailServer
from shared.webhooks.schedule import Outcome
from shared.webhooks.wording import wording

THREADS = 2
"""Mails under way at a time; alerts are few."""

STEP_S = 5.0
"""For each step of the conversation: a thread cannot be stopped."""

_DONE = 250
_UNFOLDED = SMTP.clone(max_line_length=998)


class Mailer:
    """Hands mail in at a server; nothing starts unused. `context` is what TLS trusts."""

    def __init__(self, server: MailServer, context: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._context = context
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mail")

    async def send(self, event_id: str, body: bytes, at: datetime) -> Outcome:
        """Send an event's body in words, with the bytes attached; return the server's last reply.

        Its reply codes are as HTTP's: 250 took it. The `Message-ID` is the event's on every try,
        so that mail programs show it once.
        """
        message = mail(self._server, event_id, body, at)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._send, message)

    def _send(self, message: EmailMessage) -> Outcome:
        try:
            with self._connected() as session:
                self._enter(session)
                refused = session.send_message(message)
        except smtplib.SMTPResponseException as error:
            return Outcome(status_code=error.smtp_code, answer_head=_head(error.smtp_error))
        except smtplib.SMTPRecipientsRefused as error:
            code, reply = next(iter(error.recipients.values()))
            return Outcome(status_code=code, answer_head=_head(reply))
        except (smtplib.SMTPException, OSError, ValueError) as error:
            return Outcome(error=f"{type(error).__name__}: {error}"[:500])
        head = f"not taken for: {', '.join(sorted(refused))}" if refused else "taken"
        return Outcome(status_code=_DONE, answer_head=head.encode()[:1024])

    def _connected(self) -> smtplib.SMTP:
        server, own_name = self._server, _domain(self._server)  # else it asks the DNS for it
        if server.tls == "implicit":
            return smtplib.SMTP_SSL(
                server.host, server.port, own_name, timeout=STEP_S, context=self._trusting()
            )
        return smtplib.SMTP(server.host, server.port, own_name, timeout=STEP_S)

    def _enter(self, session: smtplib.SMTP) -> None:
        """Encrypt and sign in, as far as the server wants and the config allows."""
        server = self._server
        session.ehlo_or_helo_if_needed()
        offered = session.has_extn("starttls")
        if server.tls == "required" or (server.tls == "optional" and offered):
            session.starttls(context=self._trusting())  # raises where it is not offered
            session.ehlo_or_helo_if_needed()
        if server.user is not None:
            session.login(server.user, server.password)

    def _trusting(self) -> ssl.SSLContext:
        return self._context or ssl.create_default_context()

    def close(self) -> None:
        """Take no more; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def mail(server: MailServer, event_id: str, body: bytes, at: datetime) -> EmailMessage:
    """Return the mail that tells of an event.

    Raises:
        msgspec.DecodeError: it is no event's body.
    """
    words = wording(body)
    message = EmailMessage(policy=_UNFOLDED)
    message["Subject"] = f"[Sluiceway] {words.headline}"
    message["From"] = server.sender
    message["To"] = ", ".join(server.recipients)
    message["Date"] = format_datetime(at)
    message["Message-ID"] = f"<{event_id}@{_domain(server)}>"
    message["Auto-Submitted"] = "auto-generated"  # no holiday replies (RFC 3834)
    facts = "\n".join(f"{name}: {text}" for name, text in words.facts)
    message.set_content(f"{words.headline}\n\n{facts}\n")
    message.add_attachment(body, maintype="application", subtype="json", filename="event.json")
    return message


def _domain(server: MailServer) -> str:
    return server.sender.rpartition("@")[2].rstrip("> ")


def _head(reply: bytes | str) -> bytes:
    return (reply if isinstance(reply, bytes) else reply.encode())[:1024]
