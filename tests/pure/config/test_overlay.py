"""A second file says what differs in one environment."""

from pathlib import Path

import pytest

from shared.config.load import Loaded, load_config
from shared.config.mistakes import ConfigError
from tests.pure.config.makers import KINDS, loaded

BASE = """
providers:
  mock: {kind: mock, region: here, params: {a: 1, b: {c: 2, d: 3}}}
  spare: {kind: mock}
defaults: {retry: {max_attempts: 3}}
routes:
- model: small
  aliases: [s, t]
  targets: [{provider: mock, model: x}, {provider: spare, model: y}]
  timeouts: {idle_s: 5, total_s: 50}
- {model: large, targets: [{provider: mock, model: z}]}
tenants:
- {id: acme, keys: [{name: ci, key: sk-1234567890123456}], limits: {rpm: 5, tpm: 6}}
- {id: lab}
cache: {ttl_s: 9}
"""

ENV = {"SLUICEWAY_ENV": "production"}


@pytest.fixture
def over(tmp_path):
    """Load the base with an overlay of that text, or of several by their suffix."""

    def over(text: str, *, suffix: str = "yaml", base: str = BASE) -> Loaded:
        (tmp_path / "sluiceway.yaml").write_text(base)
        (tmp_path / f"sluiceway.production.{suffix}").write_text(text)
        return load_config(tmp_path / "sluiceway.yaml", ENV, KINDS)

    return over


def told(error: pytest.ExceptionInfo[ConfigError]) -> list[str]:
    """Return the mistakes with the names of their files only."""
    return [
        f"{Path(one.file).name}:{one.line}: {one.path}: {one.message}"
        for one in error.value.mistakes
    ]


def test_mappings_are_joined_at_every_depth(over):
    config = over("providers: {mock: {params: {b: {c: 4}}}}\nqueue: {poll_s: 2}").config

    assert {"a": 1, "b": {"c": 4, "d": 3}} == config.providers["mock"].params
    assert ("here", 2.0, 9.0) == (
        config.providers["mock"].region,
        config.queue.poll_s,
        config.cache.ttl_s,
    )


def test_routes_and_tenants_are_joined_by_name_and_new_ones_come_last(over):
    config = over(
        """
        routes:
        - {model: new, targets: [{provider: mock, model: n}]}
        - {model: large, timeouts: {idle_s: 7}}
        tenants:
        - {id: acme, limits: {rpm: 50}}
        """
    ).config

    assert ["small", "large", "new"] == [route.model for route in config.routes]
    assert (7.0, "z", 3) == (
        config.routes[1].timeouts.idle_s,
        config.routes[1].targets[0].model,
        config.routes[1].retry.max_attempts,
    )
    acme = config.tenants[0]
    assert (50, 6, "ci") == (acme.limits.rpm, acme.limits.tpm, acme.keys[0].name)


def test_other_lists_are_replaced(over):
    config = over(
        """
        routes: [{model: small, aliases: [u], targets: [{provider: spare, model: q}]}]
        """
    ).config

    assert (("u",), ["q"]) == (
        config.routes[0].aliases,
        [target.model for target in config.routes[0].targets],
    )


def test_null_removes_a_key_and_remove_an_item(over):
    config = over(
        """
        providers: {spare: null}
        routes:
        - {model: small, targets: [{provider: mock, model: x}], timeouts: {idle_s: ~}}
        - {model: large, remove: true}
        tenants: [{id: lab, remove: true}]
        cache: null
        """
    ).config

    assert (["mock"], ["small"], ["acme"]) == (
        list(config.providers),
        [route.model for route in config.routes],
        [tenant.id for tenant in config.tenants],
    )
    assert (30.0, 50.0) == (config.routes[0].timeouts.idle_s, config.routes[0].timeouts.total_s)
    assert 3600.0 == config.cache.ttl_s


def test_a_key_without_a_value_says_nothing(over):
    """Else a section whose lines are all comments would take the base's away."""
    assert loaded(BASE).config == over("routes:\n# - {model: later}\ncache:\n").config


def test_defaults_are_joined_before_they_are_applied(over):
    config = over("defaults: {retry: {base_s: 1}}").config

    assert {(3, 1.0)} == {(one.retry.max_attempts, one.retry.base_s) for one in config.routes}


def test_an_overlay_may_be_toml(over):
    config = over('cache.ttl_s = 4\n[[routes]]\nmodel = "large"\nremove = true\n', suffix="toml")

    assert (4.0, 1) == (config.config.cache.ttl_s, len(config.config.routes))


def test_a_toml_file_takes_a_yaml_overlay(tmp_path):
    (tmp_path / "c.toml").write_text('[providers.mock]\nkind = "mock"\n[cache]\nttl_s = 2\n')
    (tmp_path / "c.production.yml").write_text("cache: {enabled: true}")

    found = load_config(tmp_path / "c.toml", ENV, KINDS)

    assert (2.0, True) == (found.config.cache.ttl_s, found.config.cache.enabled)
    assert ["c.toml", "c.production.yml"] == [path.name for path in found.files]


def test_without_the_variable_the_overlay_is_not_read(tmp_path):
    (tmp_path / "c.yaml").write_text("version: 1")
    (tmp_path / "c.production.yaml").write_text("not: [yaml")

    assert (tmp_path / "c.yaml",) == load_config(tmp_path / "c.yaml", {}, KINDS).files


def test_mistakes_stand_in_their_own_files(over):
    """Paths are those of what both files come to."""
    with pytest.raises(ConfigError) as error:
        over(
            "\nroutes:\n- model: large\n  retry: {max_attempts: 0}\n- {model: new}\n",
            base=BASE + "queue: {lease: 3}\n",
        )

    assert [
        'sluiceway.yaml:16: queue.lease: unknown key; did you mean "lease_s"?',
        'sluiceway.production.yaml:4: routes[1].retry.max_attempts: must be 1 or more, not "0"',
        "sluiceway.production.yaml:5: routes[2].targets: is missing",
    ] == told(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("providers: {mok: null}", '1: providers.mok: there is nothing to remove; did you mean "m'),
        ("chache: null", '1: chache: there is nothing to remove; did you mean "cache"?'),
        (
            "providers: {new: {kind: mock, region: null}}",
            "1: providers.new.region: there is nothing",
        ),
        ("defaults: {timeouts: {idle_s: ~}}", "1: defaults.timeouts.idle_s: there is nothing"),
        (
            "routes: [{model: new, targets: [{provider: mock, model: x}], price: null}]",
            "1: routes[2].price: there is nothing",
        ),
        (
            "routes: [{model: smal, remove: true}]",
            '1: routes.smal: there is nothing to remove; did you mean "small"?',
        ),
        ("routes: [{model: small, remove: yes}]", "1: routes.small.remove: must be true"),
        (
            "tenants: [{id: lab}, {id: lab}]",
            "1: tenants[2].id: tenants[1] in line 14 of sluiceway.yaml",
        ),
        ("- a", "1: : must be a mapping of keys"),
        ("a: [", "1: : not YAML: "),
    ],
)
def test_a_wrong_overlay_says_where(over, tmp_path, text, expected):
    with pytest.raises(ConfigError) as error:
        over(text)

    [first] = [line.replace(f"{tmp_path}/", "") for line in told(error)]
    assert first.startswith(f"sluiceway.production.yaml:{expected}"), first


def test_both_files_may_be_no_yaml(over):
    with pytest.raises(ConfigError) as error:
        over("a: [", base="b: {")

    assert ["sluiceway.yaml", "sluiceway.production.yaml"] == [
        Path(one.file).name for one in error.value.mistakes
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("prod", 'is "prod", and there is no c.prod.yaml beside this file; known are production'),
        ("prodction", 'did you mean "production"?'),
        ("../c", "must be letters, digits, - or _"),
        ("both", "only one may be there of c.both.yaml and c.both.toml"),
    ],
)
def test_a_wrong_environment_is_a_mistake(tmp_path, name, words):
    """A name that is not there must not start production with the settings of none."""
    (tmp_path / "c.yaml").touch()
    (tmp_path / "c.production.yaml").touch()
    if name == "both":
        (tmp_path / "c.both.yaml").touch()
        (tmp_path / "c.both.toml").touch()

    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "c.yaml", {"SLUICEWAY_ENV": name}, KINDS)

    assert words in str(error.value)
