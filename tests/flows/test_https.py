"""`server.tls`: the API serves HTTPS itself, or says why it cannot."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from api.tls import refuse_bad_certificate
from shared.config.conduct import Tls
from shared.config.mistakes import ConfigError
from shared.store.schema import migrate
from tests.fakes.stack import running_stack

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8


@pytest.fixture
def files(tmp_path):
    """Write a certificate for this machine with its key, another key, and a locked one."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sluiceway")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(PEM))
    plain = serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(PEM, PKCS8, plain))
    (tmp_path / "other.pem").write_bytes(other.private_bytes(PEM, PKCS8, plain))
    locked = serialization.BestAvailableEncryption(b"password")
    (tmp_path / "locked.pem").write_bytes(key.private_bytes(PEM, PKCS8, locked))
    return tmp_path


@pytest.mark.parametrize(
    ("cert", "key", "expected"),
    [
        ("none.pem", "key.pem", "server.tls.cert_file: {}/none.pem cannot be read: No such file"),
        ("cert.pem", "none.pem", "server.tls.key_file: {}/none.pem cannot be read: No such file"),
        ("cert.pem", "other.pem", "key_file: {}/other.pem is not the key of that certificate"),
        ("cert.pem", "locked.pem", "must be PEM files, the key without a password"),
        ("key.pem", "key.pem", "must be PEM files"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_refused(files, cert, key, expected):
    tls = Tls(cert_file=str(files / cert), key_file=str(files / key))

    with pytest.raises(ConfigError) as error:
        refuse_bad_certificate(tls)

    assert expected.format(files) in str(error.value)


def test_no_certificate_and_a_good_one_are_fine(files):
    refuse_bad_certificate(None)
    refuse_bad_certificate(Tls(cert_file=str(files / "cert.pem"), key_file=str(files / "key.pem")))


def test_the_api_serves_https(files):
    config = f"""
    providers: {{mock: {{kind: mock}}}}
    routes: [{{model: mock, targets: [{{provider: mock, model: x}}]}}]
    tenants: [{{id: a, keys: [{{name: k, key: sk-0123456789abcdef}}]}}]
    server: {{tls: {{cert_file: {files}/cert.pem, key_file: {files}/key.pem}}}}
    """
    url = f"sqlite:///{files}/sluiceway.db"
    migrate(url)
    context = ssl.create_default_context(cafile=str(files / "cert.pem"))
    ask = {"model": "mock", "messages": [{"role": "user", "content": "hi"}]}
    with running_stack(files / "home", config, database_url=url, redis_url=None) as stack:
        address = str(stack.start("api", "--stop-delay=0").wait_for_event("api.serving")["address"])

        answer = httpx.post(
            f"{address}/v1/chat/completions",
            json=ask,
            headers={"authorization": "Bearer sk-0123456789abcdef"},
            verify=context,
        )

    assert address.startswith("https://127.0.0.1:")
    assert (200, "assistant") == (
        answer.status_code,
        answer.json()["choices"][0]["message"]["role"],
    )
