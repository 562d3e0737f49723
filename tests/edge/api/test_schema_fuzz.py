"""Schemathesis against `/openapi.json` and a real server: no 5xx, and the document tells the truth.

SLUICEWAY_FUZZ_S sets the length in seconds, and makes up other requests each time; `make fuzz`
takes ten minutes. Without it they are always the same.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.edge.api.conftest import CONFIG, KEY
from tests.fakes.stack import MASTER_KEY, running_stack

LENGTH_S = int(os.environ.get("SLUICEWAY_FUZZ_S", "6"))
SEED = () if "SLUICEWAY_FUZZ_S" in os.environ else ("--seed", "1")

CHECKS = """
hooks = "fuzz_hooks.py"

# Text in headers is made up without regard for its pattern.
[parameters]
"header.X-Sluiceway-Tags" = "team=search"

# What a job's terms and the call inside may be depends on the clock and on each other.
[[operations]]
include-operation-id = "create_job"
checks.positive_data_acceptance.enabled = false

# Here the mock's wire format is another than the caller's: what no translation can read is refused.
[[operations]]
include-operation-id = "create_messages"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-operation-id = "create_responses"
checks.positive_data_acceptance.enabled = false

# Where nothing is sent is no URL for it, and a redelivery has to say of what.
[[operations]]
include-operation-id = ["create_webhook_endpoint", "update_webhook_endpoint"]
checks.positive_data_acceptance.enabled = false

[[operations]]
include-operation-id = ["redeliver_events", "test_webhook_endpoint"]
checks.positive_data_acceptance.enabled = false
checks.ensure_resource_availability.enabled = false

# What the mock does not have is refused.
[[operations]]
include-operation-id = ["create_moderations", "create_images_generations", "create_rerank"]
checks.positive_data_acceptance.enabled = false

[[operations]]
include-operation-id = ["create_audio_speech", "create_audio_transcriptions"]
checks.positive_data_acceptance.enabled = false

# A form names each of its fields once.
[[operations]]
include-operation-id = "create_file"
checks.positive_data_acceptance.enabled = false

# What parts may be depends on the upload, how large it may be on the config.
[[operations]]
include-operation-id = ["create_upload", "create_upload_part", "complete_upload"]
checks.positive_data_acceptance.enabled = false

# Moments, tags and groups have more forms than the document names; time zones are many.
[[operations]]
include-operation-id = "get_usage"
checks.negative_data_rejection.enabled = false
checks.positive_data_acceptance.enabled = false
"""

HOOKS = """
import schemathesis

# To JSON Schema 5.0 is an integer, to OpenAI it is not. How many answers are too many is for the
# provider to say, so `n` stands in no schema; as the name of an unknown field it is made up too.
@schemathesis.hook
def map_body(context, body):
    if not isinstance(body, dict):
        return body
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in body.items()
        if name != "n"
    }
"""


@pytest.mark.timeout(LENGTH_S + 100)
def test_the_document_tells_what_the_server_does(sqlite_url: str, tmp_path: Path):
    """All default checks: statuses, content types, schemas, refusals, keys, `Allow`."""
    config = CONFIG.replace("max_queued_per_tenant: 3", "max_queued_per_tenant: 1000000")
    with running_stack(tmp_path, config, database_url=sqlite_url) as stack:
        api = stack.api()
        document = httpx.get(
            f"{api.url}/openapi.json", headers={"authorization": f"Bearer {MASTER_KEY}"}
        )
        (tmp_path / "openapi.json").write_text(json.dumps(unnamed(document.json())))
        (tmp_path / "schemathesis.toml").write_text(CHECKS)
        (tmp_path / "fuzz_hooks.py").write_text(HOOKS)

        run = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("schemathesis")), "--no-color"),
                *("--config-file", "schemathesis.toml", "run", "openapi.json"),
                *("--url", api.url, "--header", f"Authorization: Bearer {KEY}"),
                *("--max-time", str(LENGTH_S), "--continue-on-failure"),
                *("--request-timeout", "10", "--warnings", "off", *SEED),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LENGTH_S + 60,
            check=False,
        )

        assert 0 == run.returncode, run.stdout[-20_000:] + run.stderr[-2_000:]
        assert not api.events("request.failed"), "a bug of ours was caught"
        assert api.process.poll() is None


def unnamed(document):
    """Return the document without `Idempotency-Key`: a second request of one name is no new one."""
    for item in document["paths"].values():
        for operation in item.values():
            operation["parameters"] = [
                parameter
                for parameter in operation.get("parameters", [])
                if parameter["name"] != "Idempotency-Key"
            ]
    return document
