"""LangChain's own standard tests of chat models, through the gateway, whoever answers.

What fetches pictures, sounds or papers from the internet is not run.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from openai import DefaultAsyncHttpxClient, DefaultHttpxClient
from pydantic import SecretStr

from tests.flows.conversations.conftest import Conversations

# LangChain's own, about its own models of answers.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ONE_CALL = {"connection": "close"}
"""LangChain keeps its own clients for ever, and their sockets with them."""

not_run = pytest.mark.xfail(reason="needs the internet, or a recording of it", run=False)


class LangChain(ChatModelIntegrationTests):
    """The standard tests against one route; `other` is a second one."""

    route = ""
    other = ""

    @pytest.fixture(autouse=True)
    def _gateway(self, conversations: Conversations) -> Iterator[None]:
        self.gateway = conversations
        with DefaultHttpxClient(headers=ONE_CALL) as self.client, conversations.thinking():
            self.async_client = DefaultAsyncHttpxClient(headers=ONE_CALL)
            yield

    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": self.route,
            "base_url": f"{self.gateway.url}/v1",
            "api_key": SecretStr(self.gateway.key),
            "http_client": self.client,
            "http_async_client": self.async_client,
            "max_retries": 0,
            "stream_usage": True,
        }

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return self.other

    @not_run
    def test_stream_time(self) -> None: ...

    @not_run
    def test_pdf_inputs(self) -> None: ...

    @not_run
    def test_audio_inputs(self) -> None: ...

    @not_run
    def test_image_inputs(self) -> None: ...

    @not_run
    def test_image_tool_message(self) -> None: ...

    @not_run
    def test_pdf_tool_message(self) -> None: ...

    @not_run
    def test_anthropic_inputs(self) -> None: ...


class TestRelayed(LangChain):
    """By a vendor that speaks OpenAI's dialect."""

    route = "openai"
    other = "openai_compatible"


class TestAnthropic(LangChain):
    """By Claude."""

    route = "anthropic"
    other = "openai_compatible"


class TestGemini(LangChain):
    """By Gemini."""

    route = "gemini"
    other = "openai_compatible"


class TestBedrock(LangChain):
    """By Claude on Bedrock."""

    route = "bedrock"
    other = "openai_compatible"
