"""The embedded stack's folder: one owner at a time, and keys that stay."""

import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compose.console import MISCONFIGURED
from shared.settings import SECRET_KEY_FILE
from shared.webhooks.signature import new_secret

DEV_KEY_PREFIX = "sk-sw-dev-"


class CannotStart(Exception):
    """The stack cannot start as it is; the message says what to do about it, in plain words.

    `code` is the exit code: 2 for what a person must mend first, 1 for what broke.
    """

    def __init__(self, message: str, *, code: int = MISCONFIGURED) -> None:
        super().__init__(message)
        self.code = code


class Folder:
    """Paths and secrets below the data folder. Whoever uses it holds `locked`."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.logs = self.path / "logs"
        self.config = self.path / "config.yaml"
        self.database = self.path / "sluiceway.db"
        self.dev_key_file = self.path / "dev.key"
        self._owners = self.path / "owners"

    @property
    def database_url(self) -> str:
        """The SQLite file as the processes are told of it."""
        return f"sqlite:///{self.database}"

    def make(self) -> None:
        """Make the folder; only its owner may look inside.

        Raises:
            CannotStart: it cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.logs.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            why = error.strerror or str(error)
            raise CannotStart(
                f"the data folder {self.path} cannot be made ({why}); choose another: --data-dir"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; the lock dies with the process, however it dies.

        Raises:
            CannotStart: another stack holds it, or it cannot be written.
        """
        try:
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise CannotStart(
                f"the data folder {self.path} cannot be written ({error.strerror});"
                " choose another: --data-dir"
            ) from error
        try:
            _take(lock, self.path)
            os.truncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())
            yield
        finally:
            os.close(lock)

    def secret_key(self) -> str:
        """What keys are hashed with; also found by commands that run with this data folder."""
        return self._kept(SECRET_KEY_FILE, lambda: secrets.token_urlsafe(32))

    def master_key(self) -> str:
        """The key of the admin API."""
        return self._kept("master.key", lambda: f"sk-sw-master-{secrets.token_hex(24)}")

    def dev_key(self) -> str:
        """The key of the tenant `dev`."""
        return self._kept(self.dev_key_file.name, lambda: DEV_KEY_PREFIX + secrets.token_hex(16))

    def webhook_secret(self) -> str:
        """What webhooks of the tenant `dev` are signed with."""
        return self._kept("webhook.secret", lambda: new_secret(os.urandom))

    def owners(self) -> list[str]:
        """Return the owner ids of the processes that the last stack on this folder started."""
        try:
            return self._owners.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return []

    def note_owners(self, owners: Iterable[str]) -> None:
        """Remember who may hold leases, in case nobody is left to release them."""
        write_private(self._owners, "".join(f"{owner}\n" for owner in owners))

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        path = self.path / name
        try:
            text = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            text = ""
        if text:
            return text
        write_private(path, make() + "\n")
        return path.read_text(encoding="utf-8").strip()


def write_private(path: Path, text: str) -> None:
    """Replace a file, whole or not at all; only its owner may read it."""
    draft = path.with_name(f"{path.name}.draft")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as output:
        output.write(text)
    draft.replace(path)


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EAGAIN}:
            raise CannotStart(f"the data folder {folder} cannot be locked: {error}") from error
        holder = os.read(lock, 20).decode("ascii", "replace").strip()
        who = f" (process {holder})" if holder else ""
        raise CannotStart(
            f"another `sluiceway dev`{who} runs on {folder};"
            " stop it, or give this one a folder of its own: --data-dir"
        ) from error
