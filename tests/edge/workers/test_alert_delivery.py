"""Alerts on their way: the config's webhook, Slack, a mail server and an SNS topic."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook

from shared.clock import SystemClock
from shared.config.mail import mail_server
from shared.ids import new_id
from shared.sealing import Sealer
from shared.store.records import Alert, AlertKey, DeliveryRow
from shared.store.webhooks import claim_deliveries, deliveries_of, delivery_attempts_of
from shared.webhooks.alerting import MAIL, SLACK, TOPIC, WEBHOOK, Teller
from shared.webhooks.attempt import PostOffice, attempt
from shared.webhooks.delivery import AlertRooms, Post, deliver
from shared.webhooks.email import Mailer
from shared.webhooks.event import subject_event
from shared.webhooks.signature import secret_for
from shared.webhooks.sns import Topics
from tests.edge.workers.receiver import respond
from tests.edge.workers.test_topics import REGION, subscribed
from tests.fakes.certificates import self_signed, serving, trusting
from tests.fakes.mail import running_mail_server

pytestmark = pytest.mark.anyio

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT = datetime(2026, 3, 5, 12, tzinfo=UTC)
FACTS = {
    "threshold": 80,
    "basis": "spent",
    "limit_usd": 50,
    "spent_usd": 40.5,
    "held_usd": 0,
}
BODY = subject_event("evt_1", "budget.threshold_reached", "tenant:acme/day", AT, FACTS).body
HEADLINE = "Budget tenant:acme/day has reached 80 % of $50: $40.5 spent"


async def sent(address, **rooms):
    """Nothing but the config allows these places: no network is."""
    delivery = DeliveryRow(
        id="dlv_1",
        event_id="evt_1",
        tenant_id="acme",
        url=address,
        status="delivering",
        event_type="budget.threshold_reached",
        body=BODY,
    )
    post = Post(alerts=AlertRooms(**rooms))
    return await deliver(delivery, post, secrets=[SECRET], clock=SystemClock())


async def test_the_config_s_webhook_may_be_a_private_one(receiver):
    outcome = await sent(WEBHOOK, webhook=receiver.url())

    [call] = receiver.received
    assert (True, BODY) == (outcome.delivered, call.body)
    Webhook(SECRET).verify(call.body, call.headers)


async def test_slack_gets_its_own_json_and_no_signature(receiver):
    outcome = await sent(SLACK, slack_url=receiver.url("/services/T/B/x"))

    [call] = receiver.received
    assert (200, "/services/T/B/x") == (outcome.status_code, call.path)
    assert HEADLINE == json.loads(call.body)["text"]
    assert "webhook-signature" not in call.headers


async def test_slack_s_refusal_is_kept(receiver):
    receiver.script("/hook", respond(404, b"no_service"))

    outcome = await sent(SLACK, slack_url=receiver.url())

    assert (404, b"no_service", False) == (
        outcome.status_code,
        outcome.answer_head,
        outcome.delivered,
    )


@pytest.mark.parametrize("address", [WEBHOOK, SLACK, MAIL, TOPIC])
async def test_what_the_config_names_no_more_is_a_failure(address):
    outcome = await sent(address)

    assert "refused: the config's alerts do not name it any more" == outcome.error


async def test_a_topic_that_no_endpoint_may_name(aws_url, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", aws_url)
    arn, messages = subscribed(aws_url, "alerts")
    topics = Topics([arn])

    outcome = await sent(TOPIC, topic=arn, topics=topics)

    [message] = messages()
    assert (True, BODY.decode()) == (outcome.delivered, message["Message"])
    assert REGION in arn
    topics.close()


# Mail


def mailer(server, *, start="smtp://", more="", context=None) -> Mailer:
    ends = f"from=gw@example.com&to=ops@example.com,b@c.d{more}"
    return Mailer(mail_server(f"{start}127.0.0.1:{server.port}?{ends}"), context)


async def mailed(server, **how):
    made = mailer(server, **how)
    outcome = await sent(MAIL, mailer=made)
    made.close()
    return outcome


async def test_mail_is_handed_in():
    async with running_mail_server() as server:
        outcome = await mailed(server)

    [mail] = server.mails
    assert (250, b"taken", True) == (outcome.status_code, outcome.answer_head, outcome.delivered)
    assert ("gw@example.com", ("ops@example.com", "b@c.d")) == (mail.sender, mail.recipients)
    assert f"[Sluiceway] {HEADLINE}" == mail.message["Subject"]
    assert "<evt_1@example.com>" == mail.message["Message-ID"]
    words, attached = mail.message.iter_parts()
    assert words.get_content().startswith(f"{HEADLINE}\r\n")
    assert BODY == attached.get_content()


async def test_mail_and_password_go_encrypted(tmp_path):
    certificate = self_signed(tmp_path)
    login = ("me", "p:w")
    async with running_mail_server(context=serving(certificate), login=login) as server:
        outcome = await mailed(
            server, start="smtp://me:p%3Aw@", more="&tls=required", context=trusting(certificate)
        )

    [mail] = server.mails
    assert (250, True, "me") == (outcome.status_code, mail.encrypted, mail.user)


async def test_a_certificate_that_nobody_knows_is_a_failure(tmp_path):
    async with running_mail_server(context=serving(self_signed(tmp_path))) as server:
        outcome = await mailed(server)

    assert outcome.error is not None
    assert outcome.error.startswith("SSLCertVerificationError")
    assert [] == server.mails


async def test_without_encryption_no_password_is_told():
    async with running_mail_server(login=("me", "pw")) as server:
        outcome = await mailed(server, start="smtp://me:pw@", more="&tls=required")

    assert "STARTTLS" in str(outcome.error)
    assert [] == server.mails


@pytest.mark.parametrize(
    ("refusals", "expected"),
    [
        ({"RCPT": "550 nobody here"}, (550, b"nobody here")),
        ({"MAIL": "451 later"}, (451, b"later")),
        ({"DATA": "554 no"}, (554, b"no")),
        ({"EHLO": "421 busy", "HELO": "421 busy"}, (421, b"busy")),
    ],
)
async def test_a_refusal_is_kept_with_its_code(refusals, expected):
    async with running_mail_server() as server:
        server.refusals = refusals
        outcome = await mailed(server)

    assert (*expected, False) == (outcome.status_code, outcome.answer_head, outcome.delivered)


async def test_a_wrong_password_is_a_failure():
    async with running_mail_server(login=("me", "pw")) as server:
        outcome = await mailed(server, start="smtp://me:no@")

    assert (535, False) == (outcome.status_code, outcome.delivered)


async def test_a_mail_server_that_is_away_is_a_failure_without_status():
    async with running_mail_server() as server:
        pass

    outcome = await mailed(server)

    assert (None, True) == (outcome.status_code, outcome.error is not None)


# The outbox


@pytest.fixture
def office(store, tenant, receiver):
    return PostOffice(
        store=store,
        clock=SystemClock(),
        ids=new_id,
        owner="w1",
        draw=lambda: 0.5,
        file_secret=lambda _: None,
        unseal=Sealer("k").open,
        post=Post(alerts=AlertRooms(webhook=receiver.url(), slack_url=receiver.url("/slack"))),
        operator_secret=secret_for("alerts", "k"),
    )


async def told(office, tenant_id="acme"):
    key = AlertKey(budget_id="tenant:acme/day", starts_at=AT, kind="spent", threshold=80)
    alert = Alert(key=key, tenant_id=tenant_id, facts=FACTS)
    event_id = new_id("evt")
    async with office.store.write() as tx:
        teller = Teller(ids=new_id, urls=(WEBHOOK, SLACK))
        await teller(tx, alert, event_id, await tx.now())
    return event_id


async def attempted(office):
    async with office.store.write() as tx:
        rows = await claim_deliveries(tx, owner="w1", lease_s=60, limit=10)
    return [await attempt(row, office) for row in rows]


async def test_alerts_have_retries_and_a_log_like_any_event(office, receiver):
    receiver.script("/slack", respond(500), respond(200))
    event_id = await told(office)
    await attempted(office)
    async with office.store.write() as tx:
        await tx.connection.execute(sa.text("UPDATE delivery SET next_at = 0"))
    await attempted(office)

    async with office.store.read() as tx:
        rows = {row.url: row for row in await deliveries_of(tx, event_id)}
        tries = await delivery_attempts_of(tx, rows[SLACK].id)
    assert {WEBHOOK: ("succeeded", 1), SLACK: ("succeeded", 2)} == {
        url: (row.status, row.attempts) for url, row in rows.items()
    }
    assert [500, 200] == [one.status_code for one in tries]
    assert not any("127.0.0.1" in url for url in rows)  # where the config leads is a secret


@pytest.mark.parametrize(
    ("tenant_id", "own", "secret"),
    [
        ("acme", SECRET, lambda _: SECRET),
        ("acme", None, lambda tenant: Sealer("k").open(tenant.webhook_secret)),
        (None, None, lambda _: secret_for("alerts", "k")),
    ],
)
async def test_who_signs(office, receiver, tenant, tenant_id, own, secret):
    """The config's secret for alerts, else the tenant's; what is of no tenant, the deployment."""
    await told(office, tenant_id)
    await attempted(msgspec.structs.replace(office, alerts_secret=own))

    [call] = [one for one in receiver.received if one.path == "/hook"]
    Webhook(secret(tenant)).verify(call.body, call.headers)
