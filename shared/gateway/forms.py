"""From a form with a file in it to an InferenceRequest, or to a 400 that names the field."""

from shared.errors import InvalidRequest
from shared.gateway.parse import ENDPOINTS, check_model
from shared.providers.dialects.multipart import read_form
from shared.providers.request import InferenceRequest, RequestHead


def parse_form(endpoint: str, raw: bytes, content_type: str) -> InferenceRequest:
    """Read the fields that decide; the file stays where it is.

    Raises:
        InvalidRequest: not the form that its type says, or a field is missing; `param` names it.
    """
    path = ENDPOINTS[endpoint]
    form = read_form(content_type, raw)
    file = form.part(path.needs)
    if file is None or not file.is_file or file.start == file.end:
        raise InvalidRequest(f"`{path.needs}` is required: a file.", param=path.needs)
    model = form.text(raw, "model")
    if model is None:
        raise InvalidRequest("`model` is required: a text.", param="model")
    check_model(model)
    stream = form.text(raw, "stream")
    return InferenceRequest(
        endpoint=endpoint,
        dialect=path.dialect,
        raw=raw,
        content_type=content_type,
        head=RequestHead(
            model=model,
            stream=stream is not None and stream.lower() in {"true", "1"},
            user=form.text(raw, "user"),
        ),
    )
