"""Every secret of the file and the environment is known, and nothing that is none."""

import msgspec

from shared.config.load import load_config
from shared.providers.registry import kinds
from shared.settings import load_settings
from shared.telemetry.configured import configured_secrets

CONFIG = """
version: 1
providers:
  one: {kind: openai, api_key: provider-secret-1}
  two: {kind: openai_compatible, base_url: "http://host/v1", api_key: none}
tenants:
  - {id: acme, webhook_secret: "whsec_cHJvY2Vzc2VzcHJvY2Vzc2VzcHJvY2Vz",
     keys: [{name: ci, key: tenant-secret-1}]}
"""


def test_they_are_found(tmp_path):
    path = tmp_path / "sluiceway.yaml"
    path.write_text(CONFIG)
    settings = load_settings(
        {
            "SLUICEWAY_DATA_DIR": str(tmp_path),
            "SLUICEWAY_DATABASE_URL": "postgresql://user:database-password@host/db",
            "SLUICEWAY_SECRET_KEY": "the-tests-own-secret-key-0123456789",
            "SLUICEWAY_MASTER_KEY": "sk-master-0123456789abcdef",
        }
    )

    found = configured_secrets(load_config(path, {}, kinds()).config, settings)

    assert {
        "provider-secret-1",
        "tenant-secret-1",
        "whsec_cHJvY2Vzc2VzcHJvY2Vzc2VzcHJvY2Vz",
        "database-password",
        "the-tests-own-secret-key-0123456789",
        "sk-master-0123456789abcdef",
    } == set(found)
    assert list(found) == sorted(found, key=lambda one: (-len(one), one))
    assert msgspec.json.encode(found)
