"""What is shown of a config never holds a secret, and says what it does not do yet."""

import re

import pytest
import yaml

from shared.config.model import Config
from shared.config.not_yet import GAPS, not_yet
from shared.config.redact import redacted
from tests.pure.config.makers import MOCK, loaded, with_route

CANARY = "canary-7f3a"
SECRETS = f"""
providers:
  a: {{kind: openai, api_key: {CANARY}, headers: {{x-tenant: {CANARY}}},
       base_url: "https://user:{CANARY}@host/v1"}}
  b: {{kind: openai, api_keys: [{{name: one, key: {CANARY}}}]}}
routes:
- {{model: m, targets: [{{provider: b, model: x, headers: {{authorization: {CANARY}}}}}]}}
tenants:
- {{id: t, keys: [{{name: k, key: {CANARY}}}], webhook_secret: whsec_{"A" * 32}}}
alerts: {{slack_url: "https://hooks/{CANARY}", webhook: "https://x/{CANARY}", smtp: "smtp://u:{CANARY}@h?from=a@b&to=c@d"}}
"""


def test_the_effective_config_holds_no_secret_and_all_defaults():
    shown = redacted(loaded(SECRETS).config)

    assert CANARY not in shown
    assert "AAAA" not in shown
    assert 600 == yaml.safe_load(shown)["routes"][0]["timeouts"]["total_s"]


@pytest.mark.parametrize("render", [repr, str, "{!r}".format])
def test_no_repr_holds_a_secret(render):
    config = loaded(SECRETS).config

    shown = render([config.providers, config.tenants, config.alerts, config.routes])

    assert "AAAA" not in shown
    # User info in a URL is hidden by logs and by `redacted`; a repr shows the URL.
    assert CANARY not in re.sub(r"://user:[^@]*@", "://", shown)


def test_the_default_config_needs_nothing_that_is_missing():
    assert () == not_yet(Config())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            MOCK + "routes: [{model: m, targets: [{provider: mock, model: x, "
            "capabilities: {tools: true}}]}]",
            'routes["m"].targets[0].capabilities',
        ),
        ("server: {trusted_proxies: [10.0.0.0/8]}", "server.trusted_proxies"),
    ],
)
def test_what_is_not_obeyed_yet_is_said(text, place):
    said = not_yet(loaded(text).config)

    assert 1 == len(said)
    assert f"({place})" in said[0]


def test_what_is_obeyed_is_not_said():
    inside = "limits: {rpm: 1}, budgets: [{window: day, limit_usd: 1}]"
    text = f"""
    tenants:
    - {{id: a, keys: [{{name: k, key: x, {inside}}}], users: {{{inside}}}, {inside}}}
    budgets: [{{match: {{tenant: a}}, window: day, limit_usd: 1}}]
    policies: {{redis_down: {{limits: deny}}, database_down: {{auth: deny}}}}
    logging: {{bodies: true}}
    server: {{tls: {{cert_file: a, key_file: b}}, cors: ["https://a"]}}
    """

    assert () == not_yet(loaded(text).config)
    assert () == not_yet(loaded(with_route(inside)).config)
    assert () == not_yet(loaded(with_route("unsupported: error")).config)
    spoken = """
    providers: {p: {kind: openai, api_key: x}}
    routes: [{model: m, targets: [{provider: p, model: x, capabilities: {seed: false}}]}]
    """
    assert () == not_yet(loaded(spoken).config)


def test_every_gap_says_what_happens_instead():
    assert all(gap.feature and gap.effect for gap in GAPS)


def test_secrets_in_addresses_and_free_params_are_hidden():
    text = f"""
    providers:
      a: {{kind: openai, base_url: "https://host/v1?key={CANARY}&region=eu",
           params: {{token: {CANARY}, inner: {{X-Api-Key: [{CANARY}]}}, max_tokens: 7, user: u}}}}
    """

    shown = redacted(loaded(text).config)

    assert CANARY not in shown
    params = yaml.safe_load(shown)["providers"]["a"]["params"]
    assert (7, "u", "[hidden]") == (params["max_tokens"], params["user"], params["token"])
