"""The paths that Azure's own SDK calls, as those that are served here."""

import re

import msgspec

PREFIX = "/openai/"

_DEPLOYMENT = re.compile(r"/openai/deployments/(.+?)/((?:chat|images|audio)/.+|[^/]+)")
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def served_path(path: str) -> tuple[str, str | None]:
    """Return our path for one of Azure's, and the deployment in it, which is the model's name.

    Any other path comes back as it is. The `api-version` of the query says nothing here.
    """
    found = _DEPLOYMENT.fullmatch(path)
    if found is not None:
        return f"/v1/{found[2]}", found[1]
    if path.startswith("/openai/v1/"):
        return path.removeprefix("/openai"), None
    if path.startswith(PREFIX):
        return f"/v1/{path.removeprefix(PREFIX)}", None
    return path, None


def with_model(raw: bytes, model: str) -> bytes:
    """Return a body that asks for a model, whatever it named itself.

    One that is no JSON object comes back unchanged, to be refused.
    """
    try:
        fields = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)
