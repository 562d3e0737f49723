"""Tokens for Vertex: each kind of Google's credentials, against a token server on a socket."""

import asyncio
import base64
import json
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from shared.clock import SystemClock
from shared.errors import FailureKind, UpstreamError
from shared.providers.google_auth import EARLY_S, METADATA_PATH, GoogleAuthorizer
from shared.providers.http1_transport import Http1Transport
from tests.fakes.clock import FakeClock
from tests.fakes.upstream import JSON, Answer
from tests.fakes.vendors.gemini import GeminiVendor

PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = PRIVATE.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()


@pytest.fixture
async def vendor():
    async with GeminiVendor() as running:
        yield running


@pytest.fixture
async def transport():
    own = Http1Transport(SystemClock())
    yield own
    await own.aclose()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def service_account(vendor):
    return {
        "type": "service_account",
        "client_email": "robot@acme.example",
        "private_key": PEM,
        "private_key_id": "k1",
        "token_uri": vendor.token_uri,
    }


def nowhere(tmp_path, **environ):
    """An authorizer on a machine without default credentials, but for those named."""
    return GoogleAuthorizer(environ, home=tmp_path)


def packed(key):
    return base64.b64encode(json.dumps(key, indent=2).encode()).decode()


def part(text):
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


@pytest.mark.parametrize("form", ["base64", "path", "environment"])
async def test_a_service_account_signs_its_question(
    form, tmp_path, vendor, transport, clock, service_account
):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(service_account))
    authorizer = nowhere(
        tmp_path, **({"GOOGLE_APPLICATION_CREDENTIALS": str(path)} if form == "environment" else {})
    )
    given = {"base64": packed(service_account), "path": str(path), "environment": None}[form]
    vendor.grants("ya29.one")

    token = await authorizer.secret(given, transport=transport, clock=clock)

    assert "ya29.one" == token
    ((_, headers, body),) = vendor.asked
    asked = {name: values[0] for name, values in parse_qs(body).items()}
    head, claims, signature = asked["assertion"].split(".")
    now_s = int(clock.now().timestamp())
    assert "application/x-www-form-urlencoded" == headers["content-type"]
    assert "urn:ietf:params:oauth:grant-type:jwt-bearer" == asked["grant_type"]
    assert {"alg": "RS256", "typ": "JWT", "kid": "k1"} == part(head)
    assert {
        "iss": "robot@acme.example",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": vendor.token_uri,
        "iat": now_s,
        "exp": now_s + 3600,
    } == part(claims)
    PRIVATE.public_key().verify(
        base64.urlsafe_b64decode(signature + "=="),
        f"{head}.{claims}".encode(),
        padding.PKCS1v15(),
        hashes.SHA256(),
    )


async def test_a_user_shows_a_refresh_token(tmp_path, vendor, transport, clock):
    folder = tmp_path / ".config/gcloud"
    folder.mkdir(parents=True)
    key = {
        "type": "authorized_user",
        "client_id": "c",
        "client_secret": "s",
        "refresh_token": "r",
        "token_uri": vendor.token_uri,
    }
    (folder / "application_default_credentials.json").write_text(json.dumps(key))
    vendor.grants("ya29.user")

    assert "ya29.user" == await nowhere(tmp_path).secret(None, transport=transport, clock=clock)
    ((_, _, body),) = vendor.asked
    assert ["refresh_token", "r"] == [
        parse_qs(body)[name][0] for name in ("grant_type", "refresh_token")
    ]


async def test_a_machine_of_googles_asks_its_metadata(tmp_path, vendor, transport, clock):
    host = vendor.base_url.removeprefix("http://")
    vendor.grants("ya29.machine")

    token = await nowhere(tmp_path, GCE_METADATA_HOST=host).secret(
        None, transport=transport, clock=clock
    )

    assert "ya29.machine" == token
    ((path, headers, _),) = vendor.asked
    assert (METADATA_PATH, "Google") == (path, headers["metadata-flavor"])


@pytest.mark.parametrize("secret", ["AIzaSyExpress", "ya29.given", "eyJh.bGci.Oi"])
async def test_a_key_or_a_token_is_used_as_it_is(secret, tmp_path, transport, clock):
    assert secret == await nowhere(tmp_path).secret(secret, transport=transport, clock=clock)


async def test_a_token_is_kept_until_shortly_before_its_end(
    tmp_path, vendor, transport, clock, service_account
):
    authorizer = nowhere(tmp_path)
    vendor.grants("one", expires_in=3600)
    vendor.grants("two", expires_in=3600)
    vendor.grants("three", expires_in=3600)

    async def token():
        return await authorizer.secret(packed(service_account), transport=transport, clock=clock)

    assert ["one"] * 5 == await asyncio.gather(*(token() for _ in range(5)))
    clock.advance(3600 - EARLY_S - 1)
    assert "one" == await token()
    clock.advance(2)
    assert "two" == await token()
    authorizer.refused()
    assert "three" == await token()


REFUSED = {"error": "invalid_grant", "error_description": "Account not found."}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, REFUSED, FailureKind.CREDENTIAL),
        (503, {}, FailureKind.SERVER_ERROR),
        (200, {}, FailureKind.MALFORMED),
    ],
)
async def test_a_token_server_that_gives_none(
    status, body, kind, tmp_path, vendor, transport, clock, service_account
):
    vendor.script(Answer(status=status, headers=JSON, pieces=(json.dumps(body).encode(),)))

    with pytest.raises(UpstreamError) as caught:
        await nowhere(tmp_path).secret(packed(service_account), transport=transport, clock=clock)

    assert (kind, False) == (caught.value.kind, caught.value.sent)
    assert PEM not in caught.value.message


@pytest.mark.parametrize(
    "key",
    [
        {"type": "service_account", "private_key": "no key"},
        {"type": "external_account"},
        {"kind": "nothing"},
    ],
)
async def test_credentials_that_are_none(key, tmp_path, transport, clock):
    with pytest.raises(UpstreamError) as caught:
        await nowhere(tmp_path).secret(packed(key), transport=transport, clock=clock)

    assert FailureKind.CREDENTIAL == caught.value.kind


async def test_no_credentials_at_all_say_what_to_do(tmp_path, transport, clock):
    authorizer = nowhere(tmp_path, GCE_METADATA_HOST="127.0.0.1:1")

    with pytest.raises(UpstreamError, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
        await authorizer.secret(None, transport=transport, clock=clock)

    assert FailureKind.CREDENTIAL == caught.value.kind
