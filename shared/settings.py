"""What a process needs before it can read its config file; from the environment, once.

`load_settings(os.environ)` lists every mistake at once. Only the commands in `compose/` call it.
An empty variable counts as unset: that is how compose files pass what nobody filled in.
"""

import difflib
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, cast
from urllib.parse import parse_qsl, urlsplit

import msgspec
from typing_extensions import override

Environment = Literal["dev", "production"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]

UrlCheck = Callable[[str], str | None]
"""Returns why the URL cannot be used, or None; may raise ValueError."""

DEFAULT_CONFIGS = (Path("sluiceway.yaml"), Path("sluiceway.yml"), Path("sluiceway.toml"))
"""The config file of a process that is not told of one: the first that is there."""
SECRET_KEY_FILE = "secret.key"  # noqa: S105 (a file's name)
_LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
_REDIS_SCHEMES = ("redis", "rediss", "unix")
_WEAK_BELOW = 16  # characters; a shorter key can be guessed offline
_MAX_PORT = 65535
_REGION = re.compile(r"[a-z0-9-]+")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,60}")  # a queue's name has 80 at most
_PROCESS_ID = re.compile(r"[A-Za-z0-9_.:@-]{1,64}")


class Secret:
    """A text that shows itself only to who calls `reveal`; repr, str, logs and JSON hide it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; keep it out of messages."""
        return self._text

    @override
    def __repr__(self) -> str:
        return "Secret([hidden])"

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and secrets.compare_digest(
            self._text.encode(), other._text.encode()
        )

    @override
    def __hash__(self) -> int:
        return hash(self._text)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one process, checked. `docs/reference/settings.md` lists the variables.

    `notes` are plain sentences for whoever starts the process: degraded modes, weak keys.
    """

    config_path: Path | None = None
    data_dir: Path
    database_url: str
    redis_url: str | None = None
    broker_url: str | None = None
    cache_url: str | None = None
    object_store_url: str | None = None
    secret_key: Secret
    master_key: Secret | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    metrics_port: int | None = None
    log_level: LogLevel = "info"
    environment: Environment = "production"
    process_id: str | None = None
    notes: tuple[str, ...] = ()

    @override
    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        for name, value in shown.items():
            if name.endswith("_url") and value is not None:
                shown[name] = url_without_password(value)
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class SettingsError(Exception):
    """The environment does not make settings; `mistakes` has one sentence for each reason."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


VARIABLES: dict[str, str] = {
    "SLUICEWAY_CONFIG": "Path of the config file.",
    "SLUICEWAY_ENV": "Name of the overlay that is laid over the config file.",
    "SLUICEWAY_DATA_DIR": "Folder of the spool, the SQLite file and generated keys.",
    "SLUICEWAY_DATABASE_URL": "Where jobs, money and keys live.",
    "SLUICEWAY_REDIS_URL": "The fast lane.",
    "SLUICEWAY_BROKER_URL": "The doorbell between API and workers.",
    "SLUICEWAY_CACHE_URL": "The response cache.",
    "SLUICEWAY_OBJECT_STORE_URL": "Files and batch results.",
    "SLUICEWAY_SECRET_KEY": "Hashes API keys; encrypts at rest.",
    "SLUICEWAY_MASTER_KEY": "The key of the admin API.",
    "SLUICEWAY_HOST": "Address the API listens on.",
    "SLUICEWAY_PORT": "Port the API listens on.",
    "SLUICEWAY_METRICS_PORT": "Port of /metrics and probes of a worker or scheduler.",
    "SLUICEWAY_LOG_LEVEL": "Least severe log line written.",
    "SLUICEWAY_ENVIRONMENT": "`dev` opens /docs and colours logs.",
    "SLUICEWAY_PROCESS_ID": "Owner id of the process's leases; set by a supervisor.",
}
"""Every variable that is read, with its meaning in a line; the docs test compares."""


def load_settings(env: Mapping[str, str]) -> Settings:
    """Return the settings that the environment describes.

    Without SLUICEWAY_SECRET_KEY the key is read from, or created in, the data folder (mode 0600);
    nothing is created when there is a mistake.

    Raises:
        SettingsError: with every mistake found.
    """
    reader = _Reader(env)
    data_dir = Path(reader.text("DATA_DIR") or ".sluiceway").expanduser().absolute()
    redis_url = reader.url("REDIS_URL", _check_redis)
    found = Settings(
        config_path=reader.config_path(),
        data_dir=data_dir,
        database_url=reader.url("DATABASE_URL", _check_database)
        or f"sqlite:///{data_dir}/sluiceway.db",
        redis_url=redis_url,
        broker_url=reader.url("BROKER_URL", _check_broker) or redis_url,
        cache_url=reader.url("CACHE_URL", _check_redis),
        object_store_url=reader.url("OBJECT_STORE_URL", _check_object_store),
        secret_key=Secret(reader.text("SECRET_KEY") or ""),
        master_key=reader.secret("MASTER_KEY"),
        host=reader.text("HOST") or "127.0.0.1",
        port=reader.port(),
        metrics_port=reader.metrics_port(),
        log_level=cast("LogLevel", reader.choice("LOG_LEVEL", _LOG_LEVELS, "info")),
        environment=cast(
            "Environment", reader.choice("ENVIRONMENT", ("dev", "production"), "production")
        ),
        process_id=reader.process_id(),
    )
    key, key_notes = _secret_key(reader, data_dir)
    if reader.mistakes:
        raise SettingsError(tuple(reader.mistakes))
    notes = (*reader.notes, *key_notes, *_degraded(found))
    return msgspec.structs.replace(found, secret_key=key, notes=notes)


def default_config() -> Path | None:
    """Return the config file in the working directory, if there is one."""
    return next((path for path in DEFAULT_CONFIGS if path.is_file()), None)


def url_without_password(url: str) -> str:
    """Return the URL with the password, if any, replaced; for people and logs."""
    return re.sub(r"(://[^/\s:@]*:)[^/\s]*(?=@)", r"\1[hidden]", url)


class _Reader:
    """Reads variables and collects what is wrong with them."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.mistakes: list[str] = []
        self.notes: list[str] = list(_misspelled(env))

    def text(self, name: str) -> str | None:
        return self._env.get(f"SLUICEWAY_{name}", "").strip() or None

    def wrong(self, name: str, why: str) -> None:
        self.mistakes.append(f"SLUICEWAY_{name}: {why}")

    def secret(self, name: str) -> Secret | None:
        value = self.text(name)
        if value is None:
            return None
        if len(value) < _WEAK_BELOW:
            self.notes.append(f"SLUICEWAY_{name} is shorter than {_WEAK_BELOW} characters; weak")
        return Secret(value)

    def config_path(self) -> Path | None:
        given = self.text("CONFIG")
        if given is None:
            found = default_config()
            if found is None and self.text("ENV") is not None:
                self.wrong("ENV", "there is no config file that it could change: SLUICEWAY_CONFIG")
            return None if found is None else found.absolute()
        path = Path(given).expanduser().absolute()
        if not path.is_file():
            self.wrong("CONFIG", f"no file at {given}")
        return path

    def url(self, name: str, check: UrlCheck) -> str | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            why = check(value)
        except ValueError as error:  # urlsplit: a port that is no number, an open bracket
            why = f"not a URL ({error})"
        if why is not None:
            self.wrong(name, why)
        return value

    def port(self) -> int:
        value = self.text("PORT")
        if value is None or value.startswith("tcp://"):
            # Kubernetes sets SLUICEWAY_PORT=tcp://... beside a Service named "sluiceway".
            return 8080
        if not (value.isascii() and value.isdigit() and int(value) <= _MAX_PORT):
            self.wrong("PORT", f'must be a whole number from 0 to {_MAX_PORT}, not "{value}"')
            return 8080
        return int(value)

    def metrics_port(self) -> int | None:
        value = self.text("METRICS_PORT")
        if value is None or value.startswith("tcp://"):  # as above, of a "sluiceway-metrics"
            return None
        if not (value.isascii() and value.isdigit() and int(value) <= _MAX_PORT):
            self.wrong("METRICS_PORT", f"must be a whole number from 0 to {_MAX_PORT}")
            return None
        return int(value)

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = (self.text(name) or default).lower()
        if value not in allowed:
            self.wrong(name, f'must be one of {", ".join(allowed)}, not "{value}"')
            return default
        return value

    def process_id(self) -> str | None:
        value = self.text("PROCESS_ID")
        if value is not None and _PROCESS_ID.fullmatch(value) is None:
            self.wrong("PROCESS_ID", "must be 1 to 64 letters, digits or any of _ . : @ -")
        return value


def _check_database(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        # Three slashes and a path; processes cannot share a database in memory.
        path = url.removeprefix("sqlite:///")
        if not url.startswith("sqlite:///") or path in {"", "/", ":memory:"}:
            return "must name a file, as in sqlite:///sluiceway.db or sqlite:////var/lib/x.db"
        return None
    if parts.scheme == "postgresql":
        return _host_mistake(parts.hostname or parts.path.strip("/"), parts.port)
    hint = "; write postgresql://" if parts.scheme.startswith(("postgres", "pgsql")) else ""
    return f"must start with sqlite:/// or postgresql://{hint}"


def _check_redis(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.scheme not in _REDIS_SCHEMES:
        return "must start with redis://, rediss:// or unix://"
    if parts.scheme == "unix":
        return None if len(parts.path) > 1 else "must name a socket, as in unix:///run/redis.sock"
    database = parts.path.strip("/")
    if database and not database.isdigit():
        return f'the database after the host must be a number, not "{database}"'
    return _host_mistake(parts.hostname, parts.port)


def _check_broker(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.scheme == "sqs":
        if _REGION.fullmatch(parts.netloc) is None or parts.path.strip("/"):
            return "must name a region, as in sqs://eu-west-1 or sqs://eu-west-1?prefix=prod"
        prefix = dict(parse_qsl(parts.query)).get("prefix", "sluiceway")
        if _PREFIX.fullmatch(prefix) is None:
            return "prefix must be 1 to 60 letters, digits, _ or -"
        return _query_mistake(parts.query, {"endpoint", "prefix"})
    if parts.scheme in {"amqp", "amqps"}:
        if find_spec("pika") is None:
            return f"{parts.scheme}:// needs the package pika: pip install 'sluiceway[rabbitmq]'"
        return _host_mistake(parts.hostname, parts.port)
    if parts.scheme not in _REDIS_SCHEMES:
        return "must start with redis://, rediss://, unix://, sqs:// or amqp://"
    return _check_redis(url)


def _check_object_store(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc or len(parts.path) < 2:  # noqa: PLR2004 (a slash and a name)
            return "must name a folder, as in file:///var/lib/files"
        return None
    if parts.scheme == "s3":
        return _host_mistake(parts.hostname, None, what="bucket") or _query_mistake(
            parts.query, {"endpoint", "region"}
        )
    return "must start with file:/// or s3://"


def _query_mistake(query: str, known: set[str]) -> str | None:
    """Say what is wrong with the options of one of AWS's services."""
    asked = dict(parse_qsl(query))
    unknown = asked.keys() - known
    if unknown:
        names = " and ".join(f"?{name}=" for name in sorted(known))
        return f'knows {names}, not "{min(unknown)}"'
    endpoint = asked.get("endpoint")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        return "endpoint must be a URL, as in ?endpoint=http://127.0.0.1:4566"
    return None


def _host_mistake(host: str | None, port: int | None, *, what: str = "host") -> str | None:
    if not host:
        return f"names no {what}"
    if port == 0:
        return "port 0 cannot be connected to"
    return None


def _misspelled(env: Mapping[str, str]) -> list[str]:
    """Return a note for each variable that is nearly one of ours."""
    found = []
    for name in sorted(env):
        if not name.startswith("SLUICEWAY_") or name in VARIABLES:
            continue
        near = difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.85)
        if near:
            found.append(f"{name} is not a setting; did you mean {near[0]}?")
    return found


def _degraded(found: Settings) -> tuple[str, ...]:
    notes = []
    if found.redis_url is None:
        polling = " and workers poll for jobs" if found.broker_url is None else ""
        notes.append(
            f"SLUICEWAY_REDIS_URL is not set: running degraded; limits count per process{polling}"
        )
    return tuple(notes)


def _secret_key(reader: _Reader, data_dir: Path) -> tuple[Secret, tuple[str, ...]]:
    given = reader.secret("SECRET_KEY")
    if given is not None or reader.mistakes:
        return given or Secret(""), ()
    path = data_dir / SECRET_KEY_FILE
    try:
        key = _read_or_create(path)
    except OSError as error:
        reader.wrong(
            "SECRET_KEY",
            f"not set, and {path} cannot be read or created ({error.strerror or error})",
        )
        return Secret(""), ()
    note = f"SLUICEWAY_SECRET_KEY is not set: using {path}; all processes must share this key"
    return Secret(key), (note,)


def _read_or_create(path: Path) -> str:
    """Return the key in the file; the first of several processes makes it, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as draft:
            draft.write(secrets.token_urlsafe(32) + "\n")
        try:
            with suppress(FileExistsError):
                os.link(draft.name, path)  # unlike rename, never replaces another's key
        finally:
            Path(draft.name).unlink()
    key = path.read_text(encoding="utf-8").strip()
    if not key:
        raise OSError(f"{path} is empty")
    return key
