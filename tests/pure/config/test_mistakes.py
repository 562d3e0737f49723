"""Every mistake is listed, with its line, its path and what would have been right."""

import pytest

from tests.pure.config.makers import MOCK, mistakes, told, with_route

TWO_TENANTS = """
tenants:
- {id: a, keys: [{name: x, key: "${K}"}]}
- {id: b, keys: [{name: x, key: "${K}"}]}
"""


def test_a_mistake_names_line_path_and_the_nearest_word():
    text = """
        providers:
          openai: {kind: openai}
        routes:
        - model: a
          targets:
          - provider: opnai
            model: x
    """

    assert [
        'routes[0].targets[0].provider: no provider named "opnai"; did you mean "openai"? (line 6)'
    ] == told(text)


def test_all_mistakes_are_told_at_once_in_the_files_order():
    text = """
        version: 2
        provders: {}
        providers:
          a: {kind: nope}
        cache: {ttl_s: soon, enabled: 3}
        queue: {lease_s: 5, heartbeat_s: 5}
    """

    assert [
        (1, "version"),
        (2, "provders"),
        (4, "providers.a.kind"),
        (5, "cache.ttl_s"),
        (5, "cache.enabled"),
        (6, "queue.heartbeat_s"),
    ] == [(mistake.line, mistake.path) for mistake in mistakes(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cache: {ttl: 3}", 'cache.ttl: unknown key; did you mean "ttl_s"?'),
        ("disabled: [a]", "disabled: unknown key"),
        ("cache: 3", "cache: must be a mapping of keys"),
        ("routes: {model: x}", "routes: must be a list"),
        ("cache: {max_entries: 1.5}", 'cache.max_entries: must be a whole number, not "1.5"'),
        ('cache: {max_entries: "7"}', 'cache.max_entries: must be a whole number, not "7"'),
        ("cache: {max_entries: [1]}", "cache.max_entries: must be a whole number, not a list"),
        ("cache: {ttl_s: .inf}", 'cache.ttl_s: must be a number, not ".inf"'),
        ("cache: {ttl_s: 1e999}", 'cache.ttl_s: must be a finite number, not "1e999"'),
        ("cache: {enabled: maybe}", 'cache.enabled: must be true or false, not "maybe"'),
        ("server: {gather_s: 0.5}", 'server.gather_s: must be 0.1 or less, not "0.5"'),
        ("logging: {sample_rate: 1.5}", 'logging.sample_rate: must be 1 or less, not "1.5"'),
        (
            "webhooks: {allow_networks: [10.0.0.1/8]}",
            "webhooks.allow_networks[0]: must be a network such as 10.0.0.0/8 (did you",
        ),
        (
            "queue: {classes: {bulk: 1}}",
            "queue.classes.bulk: unknown key; known are batch, default, interactive",
        ),
        ("providers: {a: {}}", "providers.a.kind: is missing"),
        (
            "{ledger: {enabled: false}, budgets: [{window: day, limit_usd: 1, match: {}}]}",
            "ledger.enabled: budgets need the ledger: switch it on, or remove them",
        ),
        (
            "providers: {a/b: {kind: mock}}",
            'providers["a/b"]: a provider\'s name must not be empty or hold / or spaces',
        ),
        (
            "providers: {a: {kind: mock, base_url: ftp://x}}",
            "providers.a.base_url: must be a URL that starts with http:// or https://,",
        ),
        (
            "providers: {a: {kind: mock, headers: {x y: z}}}",
            'providers.a.headers["x y"]: is not the name of an HTTP header',
        ),
        (
            "providers: {a: {kind: mock, api_key: k, api_keys: [{name: n, key: k}]}}",
            "providers.a.api_keys: give api_key or api_keys, not both",
        ),
        (
            "tenants: [{id: a, budgets: [{window: year, limit_usd: 1}]}]",
            'tenants[0].budgets[0].window: must be one of 30d, day, hour, month, week, not "year"',
        ),
        (
            "tenants: [{id: a, budgets: [{window: day, limit_usd: 1, timezone: Mars/X}]}]",
            "tenants[0].budgets[0].timezone: must be a time zone such as Europe/Berlin,",
        ),
        (
            "tenants: [{id: a, budgets: [{window: day, limit_usd: 1, thresholds: [1001]}]}]",
            'tenants[0].budgets[0].thresholds[0]: must be 1000 or less, not "1001"',
        ),
        (
            "budgets: [{match: {provider: p}, window: day, limit_usd: 1}]",
            'budgets[0].match.provider: no provider named "p"',
        ),
        (
            "budgets: [{match: {model: m}, window: day, limit_usd: 1}]",
            'budgets[0].match.model: no route named "m"',
        ),
        (
            "budgets: [{match: {tag: team}, window: day, limit_usd: 1}]",
            "budgets[0].match.tag: must be a tag such as team=search",
        ),
        (
            "tenants: [{id: a}, {id: a}]",
            'tenants[1].id: tenants[0] in line 1 is already a tenant named "a"',
        ),
        (
            "tenants: [{id: a, webhook_secret: abc}]",
            "tenants[0].webhook_secret: must be whsec_ and the base64 of 24 to 64 bytes",
        ),
        ("version: 1\nversion: 1", "version: given twice, first in line 1"),
        ("a: &a [*a]", "a[0]: refers to itself"),
        ("cache: {enabled: !python/name:os.system x}", "cache.enabled: has the unknown tag"),
    ],
)
def test_one_thing_wrong_is_one_mistake(text, expected):
    found = told(text)

    assert found[0].startswith(expected), found


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("timeouts: {total_s: 0}", 'routes[0].timeouts.total_s: must be more than 0, not "0"'),
        ("retry: {max_s: 0.1}", "routes[0].retry.max_s: must be at least base_s (0.25)"),
        ("fallbacks: [n]", 'routes[0].fallbacks[0]: no route named "n"'),
        ("fallbacks: [m]", "routes[0].fallbacks[0]: a route cannot fall back to itself"),
        (
            "on_failure: {timout: []}",
            'routes[0].on_failure.timout: unknown key; did you mean "timeout"?',
        ),
        ("on_failure: {timeout: [q]}", 'routes[0].on_failure.timeout[0]: no route named "q"'),
        (
            "aliases: [m]",
            'routes[0].aliases[0]: "m" is already the name at routes[0].model in line 3',
        ),
        ("aliases: ['x/*']", "routes[0].aliases[0]: neither an alias nor a route that has one"),
        ("aliases: ['*x']", "routes[0].aliases[0]: may hold * only at its end"),
        (
            "price: {input_per_mtok: 0.0000000001, output_per_mtok: 1}",
            "routes[0].price.input_per_mtok: must have at most 9 decimal places,",
        ),
        (
            "price: {input_per_mtok: -1, output_per_mtok: 1}",
            'routes[0].price.input_per_mtok: must be an amount in USD, zero or more, not "-1"',
        ),
        ("price: {input_per_mtok: 1}", "routes[0].price.output_per_mtok: is missing"),
    ],
)
def test_a_route_is_checked(keys, expected):
    found = told(with_route(keys))

    assert 1 == len(found)
    assert found[0].startswith(expected), found


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            "{when: {tags: {a: b}}, route: othr}",
            '.route: no route named "othr"; did you mean "other"?',
        ),
        ("{when: {tags: {a: b}}, route: m}", ".route: a rule cannot lead to its own route"),
        ("{when: {tags: {a: b}}, route: n}", ".route: a rule cannot lead to its own route"),
        (
            "{when: {tags: {a: b}}, route: 'w/*'}",
            ".route: a rule cannot lead to a route with *: name one model",
        ),
        ("{when: {tags: {a: b}}}", ".route: is missing"),
        ("{route: other}", ".when: is missing"),
        ("{when: {}, route: other}", ".when: needs a tag or a header"),
        ("{when: {tags: {}, headers: }, route: other}", ".when: needs a tag or a header"),
        ("{when: {tag: {a: b}}, route: other}", '.when.tag: unknown key; did you mean "tags"?'),
        ("{when: {tags: {a: ''}}, route: other}", ".when.tags.a: must not be empty"),
        (
            "{when: {headers: {X-Api-Key: '*'}}, route: other}",
            ".when.headers.X-Api-Key: holds a secret: a rule cannot ask for it",
        ),
        (
            "{when: {headers: {cookie: a, x-b: c}}, route: other}",
            ".when.headers.cookie: holds a secret: a rule cannot ask for it",
        ),
        (
            "{when: {headers: {x y: z}}, route: other}",
            '.when.headers["x y"]: is not the name of an HTTP header',
        ),
        ("5", ": must be a mapping of keys"),
    ],
)
def test_a_rule_is_checked(rule, expected):
    """Each mistake has the line of its rule."""
    target = "targets: [{provider: mock, model: x}]"
    routes = f"""
routes:
- {{model: other, {target}}}
- {{model: w/*, {target}}}
- model: m
  aliases: [n]
  {target}
  rules:
  - {{when: {{tags: {{a: b}}}}, route: other}}
  - {rule}
"""

    [found] = told(MOCK + routes)

    assert found.startswith(f"routes[2].rules[1]{expected}"), found
    assert found.endswith("(line 11)")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("{provider: mock, model: x, weight: 0}", ".weight: must be 1 or more"),
        ("{provider: mock, model: x, credential: k}", '.credential: no credential named "k"'),
        ("{provider: mock}", ".model: is missing"),
        ("5", ": must be a mapping of keys"),
    ],
)
def test_a_target_is_checked(target, expected):
    found = told(MOCK + f"routes: [{{model: m, targets: [{target}]}}]")

    assert 1 == len(found)
    assert found[0].startswith(f"routes[0].targets[0]{expected}"), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cache: {ttl_s: 1h}", "; write 3600 (seconds)"),
        ("cache: {ttl_s: 250 ms}", "; write 0.25 (seconds)"),
        ("cache: {ttl_s: '5'}", "; leave out the quotes"),
        ("cache: {max_entries: 10k}", "; write 10000"),
        ("cache: {max_entries: 10 pieces}", "; write the number alone"),
        ("server: {max_body_mb: 1GB}", "; write 1024 (MiB)"),
        ("ttl_s: 3", '; did you mean "cache.ttl_s"?'),
        ("targets: []", '; did you mean "routes[].targets"?'),
        ("logging: {size: 3}", "; known are requests, bodies, sample_rate, redact_pii"),
        ("providers: [a]", ": leave out the dashes, and begin each with its name and a colon"),
        ("routes: {a: b}", ": begin each item with a dash"),
        ("cache: ttl_s:3", ": a colon needs a space after it"),
        ("tenants: [a]", ", not a single value"),
    ],
)
def test_what_was_meant_is_said(text, expected):
    [found] = told(text)

    assert found.endswith(f"{expected} (line 1)"), found


def test_a_misspelt_key_is_not_missing_too():
    assert [
        'routes[0].modle: unknown key; did you mean "model"? (line 2)',
        'routes[0].target: unknown key; did you mean "targets"? (line 2)',
    ] == told(MOCK + "routes: [{modle: m, target: [{provider: mock, model: x}]}]")


def test_a_secret_in_a_wrong_place_is_not_repeated():
    assert "sk-canary" not in " ".join(told("tenants: [{id: a, keys: [sk-canary]}]"))


def test_a_route_needs_a_target():
    assert ["routes[0].targets: needs at least one target (line 2)"] == told(
        MOCK + "routes: [{model: m, targets: []}]"
    )


def test_no_two_tenants_share_a_key_and_it_is_not_repeated():
    found = told(TWO_TENANTS, {"K": "sk-very-secret"})

    assert [
        "tenants[1].keys[0].key: the same key stands at tenants[0].keys[0].key in line 2 (line 3)"
    ] == (found)


def test_an_unset_variable_is_named():
    assert [
        "tenants[0].keys[0].key: K is not set in the environment (line 2)",
        "tenants[1].keys[0].key: K is not set in the environment (line 3)",
    ] == told(TWO_TENANTS)


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A", "${A:-${B}}", "${A-b}"])
def test_a_malformed_variable_is_a_mistake(text):
    assert ["write ${NAME} or ${NAME:-default}"] == [
        mistake.message
        for mistake in mistakes(f"providers: {{a: {{kind: mock, region: '{text}'}}}}")
    ]


@pytest.mark.parametrize(
    "text",
    [
        'providers: {a: {kind: mock, base_url: "${K}"}}',
        'cache: {ttl_s: "${K}"}',
        'tenants: [{id: a, webhook_secret: "sk-canary"}]',
        'alerts: {slack_url: "sk-canary"}',
    ],
)
def test_what_may_be_a_secret_is_never_repeated(text):
    found = told(text, {"K": "sk-canary"})

    assert 1 == len(found)
    assert "canary" not in found[0]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: b: c", 1, "mapping values are not allowed here"),
        ("version: 1\n\ta: 1", 2, "indent with spaces"),
        ("a: 1\n b: 2", 2, "is this line indented like its siblings?"),
        ("a:\n  b: 1\n c: 2", 3, "it must be indented exactly like the lines it belongs to"),
        ("a: 1\nb\nc: 2", 2, "a key needs a colon and a space after it"),
        ('a: 1\nb: "c\nd: 1', 2, "a quote is opened and not closed"),
        ("a: {b: 1\nc: 2", 2, "a comma is missing, or the { of line 1 is not closed"),
        ("a: [1, 2", 1, "the [ of line 1 is not closed"),
        ("a: *", 1, "a value that begins with * needs quotes"),
        ("a: *b", 1, "a value that begins with * needs quotes"),
        ("a: @b", 1, "a value that begins with @ needs quotes"),
        ("a: 1\n---\nb: 2", 2, "not YAML"),
        ("a: {b: ${C}}", 1, 'write "${NAME}" with quotes'),
        ("- a", 1, "must be a mapping of keys"),
    ],
)
def test_a_file_that_is_no_yaml_says_where(text, line, words):
    found = mistakes(text)

    assert [line] == [mistake.line for mistake in found]
    assert words in found[0].message


def test_wrong_defaults_are_told_once():
    routes = "routes: [{model: m, targets: [{provider: mock, model: x}]}]\n"

    assert ['defaults.retry.base_s: must be 0 or more, not "-1" (line 3)'] == told(
        MOCK + routes + "defaults: {retry: {base_s: -1}}"
    )


def test_an_optional_provider_hides_only_its_unset_variables():
    text = 'providers: {a: {kind: nope, api_key: "${K}", optional: true, regon: x}}'

    assert ["providers.a.regon", "providers.a.kind"] == [mistake.path for mistake in mistakes(text)]


def test_a_kind_without_an_address_of_its_own_needs_one():
    assert ["providers.a.base_url: is missing: server has no address of its own (line 1)"] == told(
        "providers: {a: {kind: server}}"
    )
    assert [] == told("providers: {a: {kind: server, base_url: http://gpu:8000}}")
    assert [] == told('providers: {a: {kind: server, base_url: "${URL}", optional: true}}')


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('providers: {a: {kind: mock, api_key: "sk\\n1"}}', "providers.a.api_key"),
        ('providers: {a: {kind: mock, api_key: "sk 1"}}', "providers.a.api_key"),
        (
            'providers: {a: {kind: mock, api_keys: [{name: n, key: "s\\x00"}]}}',
            "providers.a.api_keys[0].key",
        ),
        ('tenants: [{id: a, keys: [{name: n, key: "s\\tk"}]}]', "tenants[0].keys[0].key"),
        ('providers: {a: {kind: mock, headers: {x-a: "a\\r\\nb"}}}', "providers.a.headers.x-a"),
        ('providers: {a: {kind: mock, base_url: "http://h/\\na"}}', "providers.a.base_url"),
    ],
)
def test_what_goes_into_a_header_stands_on_one_line(text, path):
    assert [path] == [mistake.path for mistake in mistakes(text)]


def test_the_line_break_after_a_key_of_the_environment_is_cut_off():
    assert [] == told('providers: {a: {kind: mock, api_key: "${K}"}}', {"K": "sk-1\n"})


def test_aliases_of_aliases_are_refused_before_they_grow():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]

    found = mistakes("\n".join(lines))

    assert ["its aliases make more than 100,000 values of it"] == [one.message for one in found]


def test_an_origin_has_no_path():
    origins = "'*', 'null', 'https://a', 'http://localhost:8080/', 'tauri://localhost'"
    wrong = "'https://a/path', 'a.example', ''"

    assert [] == told(f"server: {{cors: [{origins}]}}")
    assert [f"server.cors[{place}]" for place in (0, 1, 2)] == sorted(
        one.partition(":")[0] for one in told(f"server: {{cors: [{wrong}]}}")
    )
