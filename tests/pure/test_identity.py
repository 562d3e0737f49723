"""Whom a key may ask."""

import pytest

from shared.identity import Principal


@pytest.mark.parametrize(
    ("models", "names", "may"),
    [
        ((), ("any",), True),
        (("a",), ("a",), True),
        (("a",), ("alias", "a"), True),
        (("a",), ("b",), False),
        (("open/*",), ("open/x",), True),
        (("open/*",), ("opened",), False),
        (("*",), ("any",), True),
    ],
)
def test_a_key_may_ask_for_its_models(models, names, may):
    principal = Principal(tenant_id="t", key_id="k", key_name="n", models=models)

    assert may == principal.may_ask(*names)
