"""The golden cases: one JSON file each, in `tests/golden/KIND/`.

| key | holds |
|---|---|
| `about` | the promise, in one sentence |
| `behaviours` | the numbers of the conformance page that it shows |
| `endpoint` | the served path; the chat's if absent |
| `provider`, `target`, `secret` | the config's fields besides `kind`; no secret if null |
| `request` | the caller's body |
| `sent` | what must go out: `url`, `headers` (a subset), `absent_headers`, `body` |
| `answer` | `status`, `headers`, and `body` (JSON), `text`, `stream` (pieces of it), or `frames` |
| `meaning` | the answer as a canonical ChatResponse |
| `embeddings`, `usage` | an embeddings answer's vectors and usage |
| `error` | fields of the UpstreamError instead of an answer |

`frames` are those of AWS's event streams, each `[event, payload]`, an exception's name with a `!`.
"""

import json
from pathlib import Path

import msgspec

from shared.config.model import ProviderConfig
from shared.providers.registry import adapter_for
from shared.providers.request import InferenceRequest, RequestHead
from shared.providers.target import Target
from tests.fakes import aws_frames

FOLDER = Path(__file__).parents[2] / "golden"
SECRET = "sk-test"


class Case(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One file."""

    about: str
    behaviours: list[int] = []
    endpoint: str = "/v1/chat/completions"
    provider: dict = {}
    target: dict
    secret: str | None = SECRET
    request: dict
    sent: dict = {}
    answer: dict
    meaning: dict | None = None
    embeddings: list | None = None
    usage: dict | None = None
    error: dict | None = None
    kind: str = ""

    @property
    def asked(self) -> InferenceRequest:
        raw = json.dumps(self.request).encode()
        return InferenceRequest(
            endpoint=self.endpoint,
            dialect="openai",
            raw=raw,
            head=msgspec.json.decode(raw, type=RequestHead),
        )

    @property
    def exchange(self):
        provider = msgspec.convert({"kind": self.kind, **self.provider}, ProviderConfig)
        target = msgspec.convert({"provider": "vendor", **self.target}, Target)
        return adapter_for(self.kind).exchange(provider, self.secret, self.asked, target)

    @property
    def streams(self) -> bool:
        return "stream" in self.answer or "frames" in self.answer

    @property
    def answer_bytes(self) -> bytes:
        if "frames" in self.answer:
            return b"".join(_frame(name, payload) for name, payload in self.answer["frames"])
        if self.streams:
            return "".join(self.answer["stream"]).encode()
        if "text" in self.answer:
            return self.answer["text"].encode()
        return json.dumps(self.answer["body"]).encode()


def _frame(name: str, payload: object) -> bytes:
    if name.startswith("!"):
        return aws_frames.exception(name[1:], payload)
    return aws_frames.event(name, payload)


def cases(kind: str) -> dict[str, Case]:
    """Return a kind's cases by name."""
    found = {}
    for path in sorted((FOLDER / kind).glob("*.json")):
        case = msgspec.json.decode(path.read_bytes(), type=Case)
        case.kind = kind
        found[f"{kind}/{path.stem}"] = case
    return found
