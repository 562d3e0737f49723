"""A file that is fine becomes a Config, with every default filled in."""

from pathlib import Path

import pytest

from shared.config.kinds import KindNeeds
from shared.config.load import load_config
from shared.config.mistakes import ConfigError
from shared.config.model import Config, ProviderConfig, Retry, Timeouts
from tests.pure.config.makers import KINDS, MOCK, loaded, with_route

EXAMPLE = Path(__file__).parents[3] / "compose/examples/sluiceway.yaml"
RULES = Path(__file__).parents[3] / "docs/reference/rules.md"


def test_an_empty_file_is_the_default_config():
    assert Config() == loaded("").config


def test_money_never_becomes_a_float():
    """2.50 keeps its text, and an exponent is written out."""
    price = "price: {input_per_mtok: 2.50, output_per_mtok: '10', cache_read_per_mtok: 1e-9}"

    route = loaded(with_route(price)).config.routes[0]

    assert ("2.50", "10", "0.000000001") == (
        route.price.input_per_mtok,
        route.price.output_per_mtok,
        route.price.cache_read_per_mtok,
    )


@pytest.mark.parametrize(
    ("keys", "field", "expected"),
    [
        ("stream_recovery: off", "stream_recovery", "off"),
        ("unknown_price: null", "unknown_price", "null"),
        ("timeouts: {connect_s: 1}", "timeouts", Timeouts(connect_s=1.0)),
        ("timeouts: {idle_s: 2.5e0}", "timeouts", Timeouts(idle_s=2.5)),
        ("timeouts:", "timeouts", Timeouts()),
        ("hold_output_tokens: 1_000", "hold_output_tokens", 1000),
        ("aliases: [4, on]", "aliases", ("4", "on")),
    ],
)
def test_a_scalar_means_what_its_key_says(keys, field, expected):
    """YAML's own guesses (off is false, null is nothing) do not count."""
    assert expected == getattr(loaded(with_route(keys)).config.routes[0], field)


def test_an_unquoted_date_stays_text():
    provider = loaded("providers: {a: {kind: openai, api_version: 2024-10-21}}").config

    assert "2024-10-21" == provider.providers["a"].api_version


@pytest.mark.parametrize(
    ("text", "env", "expected"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("a-${A}-${B:-b}", {"A": "x"}, "a-x-b"),
        ("${A:-y}", {"A": ""}, "y"),
        ("$${A}", {"A": "x"}, "${A}"),
        ("$A", {"A": "x"}, "$A"),
        ("${A:-http://x:1/y}", {}, "http://x:1/y"),
    ],
)
def test_variables_are_filled_in(text, env, expected):
    config = loaded(f'providers: {{a: {{kind: openai, region: "{text}"}}}}', env).config

    assert expected == config.providers["a"].region


def test_a_quoted_variable_may_be_a_number():
    """Inside braces `${...}` must stand in quotes, so quotes say nothing about its type."""
    config = loaded('cache: {enabled: "${ON}", ttl_s: "${TTL:-5}"}', {"ON": "true"}).config

    assert (True, 5.0) == (config.cache.enabled, config.cache.ttl_s)


def test_an_optional_provider_without_its_key_takes_along_what_only_it_could_serve():
    config = loaded(
        """
        providers:
          openai: {kind: openai, api_key: "${OPENAI_API_KEY}", optional: true}
          mock: {kind: mock}
        routes:
        - {model: both, targets: [{provider: openai, model: x}, {provider: mock, model: y}]}
        - {model: only, targets: [{provider: openai, model: x}]}
        - {model: last, targets: [{provider: mock, model: y}], fallbacks: [only, both]}
        """
    )

    assert ("openai",) == config.config.disabled
    assert {"mock": ProviderConfig(kind="mock")} == config.config.providers
    assert [("both", 1), ("last", 1)] == [(r.model, len(r.targets)) for r in config.config.routes]
    assert ("both",) == config.config.routes[1].fallbacks
    assert (
        'provider "openai" is off: OPENAI_API_KEY not set',
        'route "only" is off: none of its providers is on',
    ) == config.notes


def test_an_optional_provider_with_its_key_is_there():
    text = 'providers: {a: {kind: openai, api_key: "${K}", optional: true}}'

    config = loaded(text, {"K": "k"}).config

    assert ((), "k") == (config.disabled, config.providers["a"].api_key)


def test_defaults_are_joined_with_what_a_route_says():
    config = loaded(
        MOCK
        + """
defaults: {retry: {max_attempts: 3, base_s: 1}, fallbacks: [b], strategy: weighted}
routes:
- {model: a, targets: [{provider: mock, model: x}], retry: {base_s: 2}}
- {model: b, targets: [{provider: mock, model: x}], strategy: priority}
"""
    ).config

    assert [
        ("a", Retry(max_attempts=3, base_s=2.0), ("b",), "weighted"),
        ("b", Retry(max_attempts=3, base_s=1.0), (), "priority"),
    ] == [(route.model, route.retry, route.fallbacks, route.strategy) for route in config.routes]


def test_the_example_of_the_page_on_rules_is_a_config():
    example = RULES.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    providers = "providers: {openai: {kind: openai}, azure: {kind: openai}}\n"

    [chat, *_] = loaded(providers + example).config.routes

    assert ["chat-large", "chat-eu"] == [rule.route for rule in chat.rules]


def test_a_rule_of_the_defaults_is_not_that_of_the_route_it_leads_to():
    config = loaded(
        MOCK
        + """
defaults: {rules: [{when: {tags: {team: "*"}}, route: b}]}
routes:
- {model: a, targets: [{provider: mock, model: x}]}
- {model: b, targets: [{provider: mock, model: x}]}
"""
    ).config

    assert [["b"], []] == [[rule.route for rule in route.rules] for route in config.routes]


def test_a_rule_that_leads_to_a_route_which_is_off_is_off_too():
    config = loaded(
        """
        providers:
          openai: {kind: openai, api_key: "${OPENAI_API_KEY}", optional: true}
          mock: {kind: mock}
        routes:
        - {model: only, aliases: [one], targets: [{provider: openai, model: x}]}
        - model: m
          targets: [{provider: mock, model: y}]
          rules: [{when: {tags: {a: b}}, route: one}]
        """
    )

    assert 'a rule of route "m" is off: so is the route "one" it leads to' == config.notes[-1], (
        config.notes
    )


def test_a_fallback_by_alias_is_written_with_the_routes_name():
    routes = """
routes:
- {model: a, aliases: [z], targets: [{provider: mock, model: x}]}
- {model: b, targets: [{provider: mock, model: x}], fallbacks: [z]}
"""

    assert ("a",) == loaded(MOCK + routes).config.routes[1].fallbacks


def test_a_class_left_out_keeps_its_share():
    config = loaded("queue: {classes: {batch: 5}}").config

    assert {"interactive": 8, "default": 3, "batch": 5} == config.queue.classes


def test_anchors_and_merge_keys_work():
    config = loaded(
        """
        providers:
          a: &base {kind: openai, region: here, api_key: one}
          b: {<<: *base, api_key: two}
        """
    ).config

    assert ("here", "two") == (config.providers["b"].region, config.providers["b"].api_key)


def test_free_values_keep_their_own_types():
    text = "providers: {a: {kind: mock, params: {t: 0.5, n: 3, b: true, s: '3', l: [1, x], z: }}}"

    params = loaded(text).config.providers["a"].params

    assert {"t": 0.5, "n": 3, "b": True, "s": "3", "l": [1, "x"], "z": None} == params


def test_a_toml_file_says_the_same(tmp_path):
    toml = tmp_path / "c.toml"
    toml.write_text(
        """
        [providers.mock]
        kind = "mock"
        [[routes]]
        model = "m"
        price = {input_per_mtok = 2.50, output_per_mtok = 10}
        targets = [{provider = "mock", model = "x"}]
        """
    )
    price = "price: {input_per_mtok: 2.50, output_per_mtok: 10}"
    yaml = MOCK + f"routes: [{{model: m, targets: [{{provider: mock, model: x}}], {price}}}]"

    assert loaded(yaml).config == load_config(toml, {}, KINDS).config


@pytest.mark.parametrize("name", ["missing.yaml", "latin.yaml"])
def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path, name):
    (tmp_path / "latin.yaml").write_bytes(b"version: \xff")

    with pytest.raises(ConfigError, match=name):
        load_config(tmp_path / name, {}, KINDS)


def test_the_example_is_fine():
    env = {name: f"key-{name}" for name in ("ACME_KEY", "ACME_ADMIN_KEY", "LAB_KEY")}
    kinds = KINDS | dict.fromkeys(("openrouter", "openai_compatible"), KindNeeds())

    found = load_config(EXAMPLE, env, kinds)

    assert ["gpt-4o", "long", "small", "local/*"] == [route.model for route in found.config.routes]


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        (
            "providers: {a: {kind: vendor}}",
            ("providers.a has no api_key: vendor refuses calls without one",),
        ),
        ("providers: {a: {kind: vendor, api_key: k}}", ()),
        ("providers: {a: {kind: vendor, project: p}}", ()),
        (
            "providers: {a: {kind: vendor, api_key: $K}}",
            (
                (
                    "providers.a.api_key is taken as it stands, with its dollar sign;"
                    " a variable is ${NAME}"
                ),
            ),
        ),
        ("providers: {a: {kind: vendor, headers: {Authorization: k}}}", ()),
        (
            "tenants: [{id: t, keys: [{name: k, key: fifteen-letters}]}]",
            ("tenants[0].keys[0].key is shorter than 16 letters and can be guessed",),
        ),
        ("tenants: [{id: t, keys: [{name: k, key: sixteen--letters}]}]", ()),
    ],
)
def test_likely_oversights_are_told_and_not_refused(text, notes):
    assert notes == loaded(text).notes
