"""The schema for editors and the loader think the same of a file.

The little validator beside this file agreed with the package `jsonschema` on every text below.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.config.load import load_config
from shared.config.mistakes import ConfigError
from shared.config.schema import config_schema, overlay_schema, schema_text
from shared.providers.registry import kinds
from tests.pure.config.json_schema import faults
from tests.pure.config.makers import MOCK, with_route

EXAMPLES = Path(__file__).parents[3] / "compose/examples"
FILES = sorted(path.name for path in EXAMPLES.iterdir() if path.suffix in {".yaml", ".toml"})
ENV = {
    name: f"key-of-the-tests-{name}"
    for name in ("ACME_KEY", "ACME_ADMIN_KEY", "LAB_KEY", "OPENAI_API_KEY", "OPENAI_API_KEY_2")
}
WHOLE = config_schema(kinds())
OVERLAY = overlay_schema(kinds())


class EditorsYaml(yaml.SafeLoader):
    """YAML without moments, as JSON has none: an editor sees a day as text."""


EditorsYaml.yaml_implicit_resolvers = {
    letter: [(tag, rule) for tag, rule in rules if not tag.endswith(":timestamp")]
    for letter, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(text: str) -> Any:
    found = yaml.load(text, Loader=EditorsYaml)
    return {} if found is None else found


def loads(text: str, env: dict[str, str] | None = None) -> bool:
    try:
        load_config(text, ENV if env is None else env, kinds())
    except ConfigError:
        return False
    return True


def tenant(keys: str) -> str:
    return f"tenants: [{{id: a, {keys}}}]"


GOOD = [
    "",
    "version: 1",
    "routes:\ntenants:\ncache:\nproviders:",
    MOCK + "cache: {enabled: true, ttl_s: 0.5, max_entries: 1}",
    'cache: {enabled: "${ON:-true}", ttl_s: "${TTL:-5}", max_entries: "${N:-3}"}',
    "providers: {a: {kind: openai, api_version: 2024-10-21, region: 4, params: {t: [1, {x: y}]}}}",
    'providers: {a: {kind: "${KIND:-mock}", base_url: "${URL:-http://gpu:8000/v1}"}}',
    "providers: {a: {kind: openai_compatible, base_url: 'HTTPS://x:1/v1', api_key: none}}",
    "providers: {a: {kind: mock, headers: {X-Team: a b, x-n: 3}, region: null, api_keys: null}}",
    with_route("stream_recovery: off"),
    with_route("unknown_price: null, strategy: least_cost, aliases: [a, 4]"),
    with_route("price: {input_per_mtok: 2.5, output_per_mtok: '10.000000001'}"),
    with_route("on_failure: {timeout: [], context_length: null}"),
    with_route("rules: [{when: {tags: {a: b, c: 4}, headers: {X-N: '*'}}, route: o}]").replace(
        "routes:", "routes:\n- {model: o, targets: [{provider: mock, model: x}]}"
    ),
    with_route("timeouts: {connect_s: 1}, retry: {base_s: 0}, breaker: , limits: null"),
    with_route("limits: {rpm: 1, tpm: null, concurrency: 3}"),
    MOCK + "defaults: {timeouts: {idle_s: 3}, price: {input_per_mtok: 1, output_per_mtok: 1}}",
    tenant("budgets: [{window: 30d, limit_usd: 1, starts_on: 2026-01-31, timezone: Asia/Tokyo}]"),
    tenant("users: {limits: {rpd: 3}}, webhook_secret: whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    tenant("keys: [{name: k, key: sk-12345678901234567, scopes: [provider_models]}]"),
    "budgets: [{match: {tenant: a}, window: day, limit_usd: 0, action: warn}]",
    "queue: {classes: {batch: 2}, lease_s: 3, heartbeat_s: 1}",
    "policies: {redis_down: {limits: open}, database_down: {auth: deny}}",
    "server: {cors: ['https://a'], trusted_proxies: [10.0.0.0/8, '::1'], max_body_mb: 1}",
    "webhooks: {allow_networks: [10.0.0.0/8]}\nlogging: {sample_rate: 1}",
    "server: {tls: {cert_file: a, key_file: b}}",
    "alerts: {slack_url: 'https://h/x', spike_factor: null}",
    "alerts: {smtp: 'smtp://h?from=a@b.c&to=d@e.f', sns_topic_arn: 'arn:aws:sns:a:123456789012:t'}",
]
BAD = [
    "alerts: {smtp: mail.example.com}",
    "alerts: {sns_topic_arn: alerts}",
    "alerts: {spike_factor: 1}",
    "version: 2",
    "a: 1",
    "disabled: [a]",
    "cache: 3",
    "cache: {ttl: 3}",
    "cache: {ttl_s: 0}",
    "cache: {ttl_s: soon}",
    "cache: {ttl_s: }",
    "cache: {enabled: 3}",
    "cache: {max_entries: 1.5}",
    "cache: {max_entries: 0}",
    "logging: {sample_rate: 1.5}",
    "providers: [{kind: mock}]",
    "providers: {a: {}}",
    "providers: {a: }",
    "providers: {a: {kind: nope}}",
    "providers: {a/b: {kind: mock}}",
    "providers: {a: {kind: openai_compatible}}",
    "providers: {a: {kind: mock, base_url: ftp://x}}",
    "providers: {a: {kind: mock, api_key: 'a b'}}",
    "providers: {a: {kind: mock, region: [x]}}",
    "providers: {a: {kind: mock, region: ''}}",
    "providers: {a: {kind: mock, headers: {x y: z}}}",
    'providers: {a: {kind: mock, headers: {x: "a\\nb"}}}',
    "providers: {a: {kind: mock, api_key: k, api_keys: [{name: n, key: k}]}}",
    "providers: {a: {kind: mock, api_keys: [{name: n}]}}",
    MOCK + "routes: [{model: m, targets: []}]",
    MOCK + "routes: [{model: m}]",
    MOCK + "routes: [{model: m, targets: }]",
    MOCK + "routes: [{model: 'a*b', targets: [{provider: mock, model: x}]}]",
    MOCK + "routes: [{model: m, targets: [{provider: mock, model: x, weight: -1}]}]",
    MOCK + "routes: {m: {targets: [{provider: mock, model: x}]}}",
    with_route("strategy: fastest"),
    with_route("retry: {max_attempts: 0}"),
    with_route("retry: {base_s: -1}"),
    with_route("timeouts: {total_s: 10s}"),
    with_route("timeouts: {total: 10}"),
    with_route("on_failure: {timout: []}"),
    with_route("rules: [{when: {tag: {a: b}}, route: o}]"),
    with_route("rules: [{when: {headers: {x y: z}}, route: o}]"),
    with_route("rules: [{when: {tags: {a: b}}}]"),
    with_route("rules: [{route: o}]"),
    with_route("price: {input_per_mtok: 1}"),
    with_route("price: {input_per_mtok: -1, output_per_mtok: 1}"),
    with_route("price: {input_per_mtok: $1, output_per_mtok: 1}"),
    with_route("limits: {rpm: 10k}"),
    with_route("capabilities: {tools: maybe}"),
    MOCK + "defaults: {model: x}",
    MOCK + "defaults: {retry: {max_attempts: none}}",
    "tenants: [{}]",
    "tenants: [{id: a b}]",
    tenant("budgets: [{window: year, limit_usd: 1}]"),
    tenant("budgets: [{window: day}]"),
    tenant("budgets: [{window: day, limit_usd: 1, thresholds: [1001]}]"),
    tenant("budgets: [{window: day, limit_usd: 1, starts_on: tomorrow}]"),
    tenant("keys: [{name: k, key: sk-1, scopes: [all]}]"),
    tenant("keys: [sk-1]"),
    tenant("webhook_secret: abc"),
    "budgets: [{window: day, limit_usd: 1}]",
    "queue: {classes: {bulk: 1}}",
    "policies: {redis_down: {limits: hope}}",
    "webhooks: {allow_networks: [intranet]}",
    "server: {tls: {cert_file: a}}",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_the_loader_takes_has_no_fault(text):
    assert (True, []) == (loads(text), faults(WHOLE, read(text)))


@pytest.mark.parametrize("text", BAD)
def test_what_the_loader_refuses_has_one(text):
    assert not loads(text)
    assert [] != faults(WHOLE, read(text))


@pytest.mark.parametrize(
    "text",
    [
        MOCK + "routes: [{model: m, targets: [{provider: mok, model: x}]}]",
        tenant("keys: [{name: k, key: '${NO_SUCH}'}]"),
        "queue: {lease_s: 1, heartbeat_s: 2}",
        "tenants: [{id: a}, {id: a}]",
    ],
)
def test_what_no_single_place_shows_only_the_loader_knows(text):
    assert (False, []) == (loads(text), faults(WHOLE, read(text)))


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_good_to_both(name):
    """With the schema that its first line names."""
    path = EXAMPLES / name
    text = path.read_text()
    first, _, _ = text.partition("\n")
    schema = json.loads((EXAMPLES / first.rpartition("$schema=")[2]).read_text())
    _, *overlay = path.stem.split(".")
    base = EXAMPLES / "sluiceway.yaml" if overlay else path
    env = ENV | ({"SLUICEWAY_ENV": overlay[0]} if overlay else {})

    found = load_config(base, env, kinds())

    assert found.config.routes
    assert [] == faults(schema, tomllib.loads(text) if path.suffix == ".toml" else read(text))


@pytest.mark.parametrize("name", ["sluiceway", "sluiceway.overlay"])
def test_the_committed_schemas_are_those_of_the_code(name):
    """If not: `sluiceway config-schema [--overlay] > compose/examples/NAME.schema.json`."""
    committed = (EXAMPLES / f"{name}.schema.json").read_text()

    assert schema_text(kinds(), overlay=name.endswith("overlay")) == committed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("routes: [{model: m, retry: {max_attempts: 3}}]", []),
        ("routes: [{model: m, remove: true}]\nproviders: {a: null}\ncache: null", []),
        ("providers: {a: {api_key: null}}\ndefaults: {price: {input_per_mtok: 1}}", []),
        ("routes: [{retry: {max_attempts: 3}}]", ["routes[0].model"]),
        ("routes: [{model: m, remove: false}]", ["routes[0].remove"]),
        ("routes: [{model: m, targets: [{provider: a}]}]", ["routes[0].targets[0].model"]),
        ("cache: {ttl: null}", ["cache.ttl"]),
        ("tenants: [{id: a, limits: {rpm: ten}}]", ["tenants[0].limits.rpm"]),
    ],
)
def test_an_overlay_may_be_a_part(text, expected):
    assert expected == faults(OVERLAY, read(text))


def test_every_field_is_described_and_every_section_closed():
    sections = [WHOLE, *WHOLE["definitions"].values()]
    fields = [field for one in sections for field in one.get("properties", {}).values()]

    assert 100 < len(fields)
    assert [] == [field for field in fields if not field.get("description")]
    assert [] == [
        one
        for one in sections
        if "properties" in one and one.get("additionalProperties") is not False
    ]


def test_every_default_satisfies_its_own_field():
    for section in WHOLE["definitions"].values():
        for field in section.get("properties", {}).values():
            if "default" in field:
                whole = {**field, "definitions": WHOLE["definitions"]}
                assert [] == faults(whole, field["default"])
