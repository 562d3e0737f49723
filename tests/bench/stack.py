"""The processes of the benchmark: a gateway on SQLite and Redis, each on a core."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.machine import pin

KEY = "sk-bench-0123456789abcdef"
CONFIG = """
version: 1
providers:
  up: {{kind: openai_compatible, base_url: "http://127.0.0.1:{port}/v1", api_key: none}}
routes:
  - model: bench
    targets: [{{provider: up, model: bench-1}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
tenants:
  - id: bench
    keys: [{{name: bench, key: {key}, limits: {{rpm: 100000000}}}}]
    limits: {{rpm: 100000000, tpm: 100000000000, concurrency: 10000}}
    budgets: [{{window: day, limit_usd: 100000}}]
"""


@contextmanager
def process(
    command: list[str], core: int, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start a process on one core and end it with the block."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=env,
            preexec_fn=lambda: pin(core),  # noqa: PLW1509 (no threads here yet)
        )
        try:
            yield child
        finally:
            child.terminate()
            child.wait(40)
            assert child.stdout is not None
            child.stdout.close()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def gateway(
    file: str, redis_url: str, core: int
) -> Iterator[tuple[subprocess.Popen[str], int, float]]:
    """Start `sluiceway api` on SQLite and Redis with that config file.

    Yields the process, its port and its start time.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "sluiceway.yaml")
        config.write_text(file)
        env = os.environ | {
            "SLUICEWAY_CONFIG": str(config),
            "SLUICEWAY_DATA_DIR": folder,
            "SLUICEWAY_SECRET_KEY": "bench-secret-key-0123456789",
            "SLUICEWAY_PORT": str(port),
            "SLUICEWAY_REDIS_URL": redis_url,
        }
        command = str(Path(sys.executable).parent / "sluiceway")
        subprocess.run([command, "migrate"], env=env, check=True, capture_output=True)
        started_s = time.perf_counter()
        with process([command, "api"], core, env) as child:
            wait_ready(port, child)
            yield child, port, time.perf_counter() - started_s


def wait_ready(port: int, child: subprocess.Popen[str]) -> None:
    """Return once `/readyz` answers 200."""
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except OSError:
            if child.poll() is not None:
                sys.exit("the gateway did not start")
            time.sleep(0.05)
    sys.exit("the gateway did not become ready in 10 s")
