"""Limiters of every kind."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.clock import SystemClock
from shared.limits.limiter import Limiter
from shared.limits.wiring import open_limiter
from tests.services import RedisServer, run_redis

Opens = Callable[..., AbstractAsyncContextManager[Limiter]]


@pytest.fixture
def opens() -> Opens:
    """Return a function that opens a limiter on a URL."""

    def open_one(
        url: str | None, *, owner: str = "one", policy: str = "local", processes: int = 1
    ) -> AbstractAsyncContextManager[Limiter]:
        return open_limiter(
            url, owner=owner, policy=policy, clock=SystemClock(), processes=processes
        )

    return open_one


@pytest.fixture(params=["memory", "redis"])
async def limiter(request: pytest.FixtureRequest, opens: Opens) -> AsyncIterator[Limiter]:
    """A limiter with nothing counted; the test runs once on each kind."""
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    async with opens(None if server is None else server.url) as opened:
        assert not opened.away
        yield opened


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that the test may break."""
    with run_redis() as server:
        yield server


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a key and its certificate for 127.0.0.1, which signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = SystemClock().now()
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "redis.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path
