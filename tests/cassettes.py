"""Recorded traffic of real providers, where it is at hand: in a folder beside the repository.

`SLUICEWAY_CASSETTES` names other folders, separated by colons. Where there is none, nothing is
collected and nothing is skipped. The files are VCR's YAML.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
import yaml

BESIDE = Path(__file__).parents[2] / "shared" / "cassettes" / "dev"
FOLDERS = [Path(path) for path in os.environ.get("SLUICEWAY_CASSETTES", str(BESIDE)).split(":")]

KINDS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gemini",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.mistral.ai": "mistral",
    "api.x.ai": "xai",
    "api.cohere.com": "cohere",
    "localhost:11434": "ollama",
}
DIALECTS = {
    "/chat/completions": "openai",
    "/embeddings": "embeddings",
    "/responses": "responses",
    "/messages": "anthropic",
    ":generateContent": "gemini",
    ":streamGenerateContent": "gemini",
    "/converse": "bedrock",
    "/converse-stream": "bedrock",
    "/api/chat": "ollama",
}
"""How a path ends, and what is spoken there."""

_MODEL_IN_PATH = re.compile(r"/models?/([^/]+?)(?::\w+|/converse(?:-stream)?)$")
_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")


class Interaction(msgspec.Struct, frozen=True, kw_only=True):
    """One request and its answer. `asked` is the JSON of the request, nothing for a GET."""

    name: str
    method: str
    url: str
    asked: dict
    status: int
    headers: Mapping[str, str]
    answer: bytes

    @property
    def host(self) -> str:
        """Who was asked."""
        return urlsplit(self.url).netloc

    @property
    def path(self) -> str:
        """The path alone, decoded."""
        return unquote(urlsplit(self.url).path)

    @property
    def kind(self) -> str:
        """The provider's kind in the config file."""
        if self.host.startswith("bedrock-runtime."):
            return "bedrock"
        if self.host.endswith(".openai.azure.com"):
            return "azure_openai"
        return KINDS.get(self.host, "openai_compatible")

    @property
    def dialect(self) -> str:
        """What was spoken; empty for what is no question."""
        found = [name for end, name in DIALECTS.items() if self.path.endswith(end)]
        return found[0] if found and "POST" == self.method else ""

    @property
    def model(self) -> str:
        """The model that was asked, in the body or in the path."""
        in_path = _DEPLOYMENT.search(self.path) or _MODEL_IN_PATH.search(self.path)
        return in_path[1] if in_path else str(self.asked.get("model", ""))

    @property
    def streams(self) -> bool:
        """Whether a stream was asked for."""
        by_path = "stream" in self.path.lower().rpartition("/")[2].partition("?")[0]
        return by_path or bool(self.asked.get("stream"))

    @property
    def provider(self) -> dict:
        """The config's provider that would ask this."""
        parts = urlsplit(self.url)
        found: dict = {"kind": self.kind}
        if "bedrock" == self.kind:
            found["region"] = self.host.split(".")[1]
        if "azure_openai" == self.kind:
            version = re.search(r"api-version=([\w-]+)", parts.query)
            found |= {"base_url": f"https://{self.host}"}
            found |= {"api_version": version[1]} if version else {}
        if "openai_compatible" == self.kind:
            root = self.url.partition("/chat/completions")[0]
            found["base_url"] = root
        return found


def interactions() -> dict[str, Interaction]:
    """Return all of them by name: the file's and the number in it."""
    found = {}
    for folder in FOLDERS:
        for path in sorted(folder.glob("*.yaml")):
            for interaction in read(path):
                found[interaction.name] = interaction
    return found


def read(path: Path) -> Iterator[Interaction]:
    """Yield the interactions of one file."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    recorded = yaml.load(path.read_text(encoding="utf-8"), loader)
    for number, entry in enumerate(recorded["interactions"], start=1):
        request, response = entry["request"], entry["response"]
        yield Interaction(
            name=f"{path.stem}-{number}",
            method=request["method"],
            url=request["uri"],
            asked=request.get("parsed_body") or json.loads(request.get("body") or "{}"),
            status=response["status"]["code"],
            headers=_headers(response["headers"]),
            answer=_bytes(response),
        )


def _headers(recorded: Mapping) -> dict[str, str]:
    """Return what still describes the decoded body."""
    gone = {"content-length", "transfer-encoding", "content-encoding"}
    return {
        name.lower(): _text(values[0] if isinstance(values, list) else values)
        for name, values in recorded.items()
        if name.lower() not in gone
    }


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _bytes(response: Mapping) -> bytes:
    if "parsed_body" in response:
        return json.dumps(response["parsed_body"]).encode()
    body = response["body"]["string"]
    return body if isinstance(body, bytes) else body.encode()
