"""The environment of a process: every mistake at once, and no secret in sight."""

import stat
import sys
from pathlib import Path

import pytest

from shared.settings import Secret, Settings, SettingsError, load_settings, url_without_password


@pytest.fixture
def load(tmp_path):
    """Load settings with a data folder of this test and a secret key."""

    def load(**env: str) -> Settings:
        given = {"DATA_DIR": str(tmp_path), "SECRET_KEY": "s" * 32, **env}
        return load_settings({f"SLUICEWAY_{name}": value for name, value in given.items()})

    return load


def test_the_defaults(load, tmp_path):
    settings = load()

    assert (f"sqlite:///{tmp_path}/sluiceway.db", None, None, "127.0.0.1", 8080) == (
        settings.database_url,
        settings.redis_url,
        settings.broker_url,
        settings.host,
        settings.port,
    )
    assert ("info", "production", None) == (
        settings.log_level,
        settings.environment,
        settings.process_id,
    )


def test_degraded_without_redis_is_said(load):
    assert "SLUICEWAY_REDIS_URL is not set: running degraded" in load().notes[0]
    assert () == load(REDIS_URL="redis://localhost").notes


def test_the_broker_is_redis_unless_said_otherwise(load):
    assert "redis://a" == load(REDIS_URL="redis://a").broker_url
    assert "redis://b" == load(REDIS_URL="redis://a", BROKER_URL="redis://b").broker_url


def test_an_empty_variable_is_unset(load):
    assert (8080, None, "info") == (
        (settings := load(PORT="", REDIS_URL=" ", LOG_LEVEL="")).port,
        settings.redis_url,
        settings.log_level,
    )


def test_every_mistake_is_told_at_once(load, tmp_path):
    with pytest.raises(SettingsError) as told:
        load(
            CONFIG=str(tmp_path / "none.yaml"),
            DATABASE_URL="mysql://x",
            REDIS_URL="localhost:6379",
            BROKER_URL="sqs://",
            PORT="99999",
            LOG_LEVEL="loud",
            ENVIRONMENT="test",
            PROCESS_ID="a b",
        )

    assert [
        "SLUICEWAY_REDIS_URL",
        "SLUICEWAY_CONFIG",
        "SLUICEWAY_DATABASE_URL",
        "SLUICEWAY_BROKER_URL",
        "SLUICEWAY_PORT",
        "SLUICEWAY_LOG_LEVEL",
        "SLUICEWAY_ENVIRONMENT",
        "SLUICEWAY_PROCESS_ID",
    ] == [mistake.partition(":")[0] for mistake in told.value.mistakes]


@pytest.mark.parametrize(
    ("name", "url", "words"),
    [
        ("DATABASE_URL", "sqlite://", "must name a file"),
        ("DATABASE_URL", "sqlite:///", "must name a file"),
        ("DATABASE_URL", "sqlite:///:memory:", "must name a file"),
        ("DATABASE_URL", "sqlite:/x.db", "must name a file"),
        ("DATABASE_URL", "postgres://h/d", "write postgresql://"),
        ("DATABASE_URL", "postgresql+psycopg://h/d", "write postgresql://"),
        ("DATABASE_URL", "postgresql://h:port/d", "not a URL"),
        ("DATABASE_URL", "postgresql://", "names no host"),
        ("DATABASE_URL", "postgresql://[::1/d", "not a URL"),
        ("REDIS_URL", "http://x", "must start with redis://"),
        ("REDIS_URL", "redis://", "names no host"),
        ("REDIS_URL", "redis://h:0", "port 0"),
        ("REDIS_URL", "redis://h/db", "must be a number"),
        ("REDIS_URL", "unix://", "must name a socket"),
        ("BROKER_URL", "kafka://h", "sqs:// or amqp://"),
        ("BROKER_URL", "sqs://", "must name a region"),
        ("BROKER_URL", "sqs://key:secret@eu-west-1", "must name a region"),
        ("BROKER_URL", "sqs://eu-west-1/queue", "must name a region"),
        ("BROKER_URL", "sqs://eu-west-1?prefix=a.b", "prefix must be"),
        ("BROKER_URL", "sqs://eu-west-1?endpoint=moto:5000", "endpoint must be a URL"),
        ("BROKER_URL", "sqs://eu-west-1?queue=a", "knows \\?endpoint= and \\?prefix="),
        ("OBJECT_STORE_URL", "s3://", "names no bucket"),
        ("OBJECT_STORE_URL", "s3://b?endpoint=minio:9000", "endpoint must be a URL"),
        ("OBJECT_STORE_URL", "s3://b?queue=a", "knows \\?endpoint= and \\?region="),
        ("OBJECT_STORE_URL", "file://", "must name a folder"),
        ("OBJECT_STORE_URL", "file://host/path", "must name a folder"),
        ("OBJECT_STORE_URL", "ftp://x", "must start with"),
    ],
)
def test_a_malformed_url_is_a_mistake(load, name, url, words):
    with pytest.raises(SettingsError, match=words):
        load(**{name: url})


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("database_url", "sqlite:///x.db"),
        ("database_url", "postgresql://u:p@h:5432/d?sslmode=require"),
        ("database_url", "postgresql:///d?host=/run/postgresql"),
        ("redis_url", "rediss://u:p@h:6380/2"),
        ("redis_url", "unix:///run/redis.sock?db=1"),
        ("object_store_url", "s3://bucket/prefix?endpoint=http://x"),
        ("cache_url", "redis://h"),
        ("broker_url", "sqs://eu-west-1"),
        ("broker_url", "sqs://eu-west-1?endpoint=http://moto:5000&prefix=prod-1"),
    ],
)
def test_a_good_url_is_kept_as_it_is(load, name, url):
    assert url == getattr(load(**{name.upper(): url}), name)


def test_rabbitmq_needs_its_extra(load, monkeypatch):
    """Told at the start, and how to get it; not at the first ring."""
    monkeypatch.setitem(sys.modules, "pika", None)
    with pytest.raises(SettingsError, match=r"pip install 'sluiceway\[rabbitmq\]'"):
        load(BROKER_URL="amqps://u:p@h/v")


@pytest.mark.parametrize("url", ["amqp://u:p@h:5672/v", "amqps://u:p@h/v?heartbeat=30"])
def test_rabbitmq_is_a_broker_where_its_package_is(load, url):
    pytest.importorskip("pika")
    assert url == load(BROKER_URL=url).broker_url
    with pytest.raises(SettingsError, match="names no host"):
        load(BROKER_URL="amqp://")


def test_with_another_broker_workers_do_not_depend_on_polling(load):
    [note] = load(BROKER_URL="sqs://eu-west-1").notes[:1]
    assert note.endswith("limits count per process")


def test_what_kubernetes_sets_for_a_service_is_no_port(load):
    assert 8080 == load(PORT="tcp://10.0.0.1:8080").port
    assert load(METRICS_PORT="tcp://10.0.0.1:9090").metrics_port is None


def test_a_misspelled_variable_is_said(load):
    notes = load(REDISURL="redis://x").notes

    assert "SLUICEWAY_REDISURL is not a setting; did you mean SLUICEWAY_REDIS_URL?" in notes


def test_the_secret_key_is_made_once_and_for_the_owner_only(load, tmp_path):
    first = load(SECRET_KEY="")
    path = tmp_path / "secret.key"

    assert first.secret_key == load(SECRET_KEY="").secret_key
    assert first.secret_key.reveal() == path.read_text().strip()
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert [path] == list(tmp_path.iterdir())
    assert any("all processes must share this key" in note for note in first.notes)


def test_nothing_is_made_when_there_is_a_mistake(load, tmp_path):
    with pytest.raises(SettingsError):
        load(SECRET_KEY="", PORT="x")

    assert [] == list(tmp_path.iterdir())


def test_an_empty_key_file_is_a_mistake(load, tmp_path):
    (tmp_path / "secret.key").touch()

    with pytest.raises(SettingsError, match=r"secret\.key is empty"):
        load(SECRET_KEY="")


def test_a_data_folder_that_cannot_be_made_is_a_mistake(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match="SLUICEWAY_SECRET_KEY: not set, and"):
        load_settings({"SLUICEWAY_DATA_DIR": str(tmp_path / "file")})


def test_a_weak_key_is_said(load):
    assert "SLUICEWAY_MASTER_KEY is shorter" in " ".join(load(MASTER_KEY="short").notes)


@pytest.mark.parametrize("render", [repr, str, "{}".format])
def test_no_secret_is_shown(load, render):
    shown = render(
        load(
            SECRET_KEY="canary-one",
            MASTER_KEY="canary-two",
            DATABASE_URL="postgresql://u:canary-three@h/d",
            REDIS_URL="redis://:canary@four@h",
        )
    )

    assert "canary" not in shown
    assert "@h/d" in shown


def test_a_secret_is_its_text_and_nothing_else():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert {Secret("a")} == {Secret("a"), Secret("a")}
    assert "Secret([hidden])" == f"{Secret('a')}"


def test_a_url_is_shown_without_its_password():
    assert "redis://u:[hidden]@h:1/0" == url_without_password("redis://u:p@h:1/0")
    assert "redis://h:1/0" == url_without_password("redis://h:1/0")


def test_the_config_file_beside_the_process_is_found(load, tmp_path):
    given = tmp_path / "other.yaml"
    given.touch()

    assert given == load(CONFIG=str(given)).config_path
    assert Path("sluiceway.yaml").is_file() is (load().config_path is not None)


@pytest.mark.parametrize("name", ["sluiceway.yaml", "sluiceway.yml", "sluiceway.toml"])
def test_a_config_file_in_the_working_directory_is_found(load, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()

    assert tmp_path / name == load().config_path


def test_an_overlay_needs_a_file_to_lie_on(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SettingsError, match="SLUICEWAY_ENV: there is no config file"):
        load(ENV="production")
