"""One gateway before all fake vendors, a route for each; started once per test process."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from anthropic import Anthropic
from openai import OpenAI

from shared.store.schema import migrate
from tests.fakes.stack import running_stack
from tests.fakes.vendors.brain import thinking_for
from tests.fakes.vendors.running import running
from tests.fakes.vendors.scenes import SceneVendor
from tests.flows.conversations.questions import read_by
from tests.flows.conversations.rows import AWS, ROWS

KEY = "sk-caller-0123456789abcdef"


class Conversations:
    """The gateway's address, the vendors behind it, and the SDKs before it.

    The SDKs are changed in nothing but base URL, key and retries.
    """

    def __init__(
        self, url: str, vendors: Mapping[str, SceneVendor], openai: OpenAI, anthropic: Anthropic
    ) -> None:
        self.url = url
        self.key = KEY
        self.vendors = vendors
        self.openai = openai
        self.anthropic = anthropic

    @contextmanager
    def thinking(self) -> Iterator[None]:
        """Let every vendor answer by itself for as long as the block lasts."""
        for name, vendor in self.vendors.items():
            vendor.always(thinking_for(vendor, read_by(ROWS[name])))
        try:
            yield
        finally:
            for vendor in self.vendors.values():
                vendor.forget()


def _config(vendors: Mapping[str, SceneVendor]) -> str:
    """Return the config file: routes by the vendors' names, `NAME-embed` for their vectors."""
    routes = [
        {"model": f"{name}{suffix}", "targets": [{"provider": name, "model": model}]}
        for name in vendors
        for suffix, model in (("", ROWS[name].model), ("-embed", ROWS[name].embedding_model))
    ]
    return json.dumps({
        "version": 1,
        "providers": {name: ROWS[name].config(vendor.base_url) for name, vendor in vendors.items()},
        "defaults": {
            "price": {"input_per_mtok": 1, "output_per_mtok": 2},
            "retry": {"max_attempts": 1},
        },
        "routes": routes,
        "tenants": [{"id": "acme", "keys": [{"name": "ci", "key": KEY}]}],
    })  # fmt: skip


@pytest.fixture(scope="session")
def _conversations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conversations]:
    home = tmp_path_factory.mktemp("conversations")
    url = f"sqlite:///{home}/sluiceway.db"
    migrate(url)
    fakes = {name: row.fake() for name, row in ROWS.items()}
    with (
        running(fakes) as vendors,
        running_stack(home, _config(vendors), database_url=url) as stack,
    ):
        stack.env |= AWS
        url = stack.api().url
        with (
            OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as openai,
            Anthropic(base_url=url, api_key=KEY, max_retries=0) as anthropic,
        ):
            yield Conversations(url, vendors, openai, anthropic)


@pytest.fixture
def conversations(_conversations: Conversations) -> Conversations:
    """All vendors without a scene."""
    for vendor in _conversations.vendors.values():
        vendor.forget()
    return _conversations
