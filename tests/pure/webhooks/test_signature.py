"""Signatures, checked by other people's verifiers."""

import base64
import os
from datetime import UTC, datetime, timedelta, timezone

import openai
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared.webhooks.event import job_event
from shared.webhooks.signature import InvalidSecret, key_of, new_secret, signed_headers

NOW = datetime.now(UTC)  # the verifiers compare with the machine's clock
BODY = job_event("evt_1", job_id="job_1", status="succeeded", at=NOW).body


def signed(*secrets, at=None, body=BODY):
    moment = datetime.now(UTC) if at is None else at  # the verifiers take five minutes at most
    return signed_headers(secrets, event_id="evt_1", at=moment, body=body)


def test_the_reference_library_accepts_it():
    secret = new_secret(os.urandom)

    assert "job.succeeded" == Webhook(secret).verify(BODY, signed(secret))["type"]


@pytest.mark.behaviour(194)
def test_the_openai_sdk_accepts_it():
    secret = new_secret(os.urandom)
    client = openai.OpenAI(api_key="none", webhook_secret=secret)

    event = client.webhooks.unwrap(BODY, signed(secret))

    assert ("job.succeeded", "job_1") == (event.type, event.data.id)


@pytest.mark.behaviour(196)
def test_both_secrets_verify_while_one_is_rotated():
    old, new = new_secret(os.urandom), new_secret(os.urandom)
    headers = signed(new, old)

    for secret in (old, new):
        Webhook(secret).verify(BODY, headers)
        openai.OpenAI(api_key="none", webhook_secret=secret).webhooks.unwrap(BODY, headers)


@pytest.mark.behaviour(194)
def test_another_body_or_secret_is_refused():
    secret = new_secret(os.urandom)

    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", signed(secret))
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret(os.urandom)).verify(BODY, signed(secret))


def test_the_timestamp_is_the_moment_in_any_time_zone():
    secret = new_secret(os.urandom)
    east = NOW.astimezone(timezone(timedelta(hours=2)))

    assert signed(secret, at=NOW) == signed(secret, at=east)
    with pytest.raises(ValueError, match="aware"):
        signed(secret, at=NOW.replace(tzinfo=None))


def test_a_known_signature():
    """The example of the Standard Webhooks specification's reference implementation."""
    headers = signed_headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        event_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        at=datetime.fromtimestamp(1_614_265_330, UTC),
        body=b'{"test": 2432232314}',
    )

    assert "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" == headers["webhook-signature"]


def test_new_secrets_need_no_padding():
    secret = new_secret(os.urandom)

    assert secret.startswith("whsec_")
    assert "=" not in secret
    assert 24 == len(key_of(secret))


@pytest.mark.parametrize("size", [24, 25, 26, 32, 64])
def test_secrets_of_a_config_file_may_be_padded_or_bare(size):
    key = os.urandom(size)
    text = base64.b64encode(key).decode()

    for secret in (f"whsec_{text}", text, f"whsec_{text}".rstrip("=")):
        assert key == key_of(secret)


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_ab", "whsec_!!!!", "a b", "whsec_" + "A" * 90]
)
def test_what_is_no_secret_is_refused_without_showing_it(secret):
    with pytest.raises(InvalidSecret) as refused:
        key_of(secret)

    assert not secret or secret not in str(refused.value)


def test_signing_needs_a_secret():
    with pytest.raises(ValueError, match="secret"):
        signed()
