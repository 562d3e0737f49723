"""A stream that broke after content, asked for in the other dialects of OpenAI's."""

import json
from collections.abc import Sequence

import openai
import pytest

from tests.fakes.scripted import TEXT, TOKENS, Story
from tests.fakes.upstream import DONE, Answer, Recorded, sse, status
from tests.flows.scenes import CUT, KEY, SLOW, Rig, body_of, claude_tells

TOLD = "".join(TOKENS[:40])


def client_of(rig: Rig) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{rig.api.url}/v1", api_key=KEY, max_retries=0)


def completion_chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    body = {
        "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "fake",
        "choices": [choice],
    }  # fmt: skip
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def goes_on(request: Recorded) -> Answer:
    """Continue the prompt as far as the story goes."""
    told = str(request.json["prompt"]).removeprefix("tell: ")
    assert TEXT.startswith(told), told
    rest = completion_chunk(TEXT[len(told) :])
    return sse([rest, completion_chunk("", "stop"), DONE])


CUT_COMPLETION = sse([completion_chunk(token) for token in TOKENS[:40]], gap_s=SLOW, end="reset")


@pytest.mark.parametrize("recovery", ["continue", "restart"])
def test_a_completion_goes_on(rig: Rig, recovery: str):
    """From its prompt and what was told, or from its prompt."""
    rig.vendor.always("alpha", CUT_COMPLETION)
    rig.vendor.always("beta", goes_on)
    client = client_of(rig)
    model = body_of(f"able-{recovery}")["model"]

    with client.completions.create(model=str(model), prompt="tell: ", stream=True) as stream:
        chunks = list(stream)

    assert TEXT == "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert "stop" == chunks[-1].choices[0].finish_reason
    assert 1 == len({(chunk.id, chunk.model, chunk.created) for chunk in chunks})
    asked = [request.json["prompt"] for request in rig.vendor.asked("beta")]
    assert ["tell: " + (TOLD if recovery == "continue" else "")] == asked


def test_completions_of_two_prompts_are_not_gone_on_with(rig: Rig):
    """One of the answers has ended, and that is not the end."""
    first = completion_chunk("one", "stop")
    second = completion_chunk("two").replace(b'"index": 0', b'"index": 1')
    rig.vendor.always("alpha", sse([first, second], gap_s=SLOW, end="reset"))
    model = str(body_of("pair-restart")["model"])

    with pytest.raises(openai.APIError) as caught:
        list(client_of(rig).completions.create(model=model, prompt=["a", "b"], stream=True))

    assert "stream_interrupted" == caught.value.code
    assert (1, 0) == rig.asked()


def events_of(tokens: Sequence[str], *, ended: bool = True) -> list[bytes]:
    """A response in OpenAI's own words, with a thought that it does not show."""
    thought = {"type": "reasoning", "id": "rs_native", "summary": []}
    message = {
        "type": "message", "id": "msg_native", "role": "assistant", "status": "in_progress",
        "content": [],
    }  # fmt: skip
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    body = {
        "id": "resp_native", "object": "response", "created_at": 7, "status": "in_progress",
        "model": "gpt-native", "output": [], "usage": None, "error": None, "tools": [],
        "incomplete_details": None, "parallel_tool_calls": True, "tool_choice": "auto",
    }  # fmt: skip
    here = {"item_id": "msg_native", "output_index": 1, "content_index": 0}
    text = "".join(tokens)
    said = {**part, "text": text}
    whole = {**message, "status": "completed", "content": [said]}
    usage = {
        "input_tokens": 1000, "output_tokens": len(tokens), "total_tokens": 1000 + len(tokens),
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    ends = {**body, "status": "completed", "output": [thought, whole], "usage": usage}
    events = [
        ("created", {"response": body}),
        ("in_progress", {"response": body}),
        ("output_item.added", {"output_index": 0, "item": thought}),
        ("output_item.done", {"output_index": 0, "item": thought}),
        ("output_item.added", {"output_index": 1, "item": message}),
        ("content_part.added", {**here, "part": part}),
        *(("output_text.delta", {**here, "delta": token, "logprobs": []}) for token in tokens),
        ("output_text.done", {**here, "text": text, "logprobs": []}),
        ("content_part.done", {**here, "part": said}),
        ("output_item.done", {"output_index": 1, "item": whole}),
        ("completed", {"response": ends}),
    ]
    if not ended:
        del events[-4:]
    return [
        b"event: response.%b\ndata: %b\n\n"
        % (
            kind.encode(),
            json.dumps({"type": f"response.{kind}", "sequence_number": number, **rest}).encode(),
        )
        for number, (kind, rest) in enumerate(events)
    ]


CUT_RESPONSE = sse(events_of(TOKENS[:40], ended=False), gap_s=SLOW, end="reset")


def responded(rig: Rig, model: str, **more: object) -> tuple[object, list[dict[str, object]]]:
    """Ask with the SDK's own helper, which puts the response together; return it and the events."""
    name = str(body_of(model)["model"])
    with client_of(rig).responses.stream(model=name, input="tell", **more) as stream:
        events = [event.model_dump(warnings=False) for event in stream]
        response = stream.get_final_response()
    numbers = [event["sequence_number"] for event in events]
    assert [*range(len(numbers))] == sorted(set(numbers))
    return response, events


@pytest.mark.parametrize("first", ["native", "chat"])
def test_a_response_is_one_response(rig: Rig, first: str):
    """Relayed, then translated, and the other way round; its last event has all of it."""
    if first == "native":
        rig.vendor.always("native", CUT_RESPONSE)
        rig.vendor.always("claude", claude_tells(TOKENS))
    else:
        rig.vendor.always("alpha", CUT)
        rig.vendor.always("native", sse(events_of(TOKENS)))

    response, events = responded(rig, f"responds-{'first' if first == 'native' else 'second'}")

    assert ("completed", TEXT) == (response.status, response.output_text)
    told = "".join(event["delta"] for event in events if "output_text.delta" in event["type"])
    assert TEXT == told
    assert {response.id} == {one["response"]["id"] for one in events if one.get("response")}
    message = response.output[-1]
    of_text = [event for event in events if event["type"].startswith("response.output_text")]
    assert {(message.id, len(response.output) - 1, 0)} == {
        (event["item_id"], event["output_index"], event["content_index"]) for event in of_text
    }
    assert ("resp_native" == response.id) == (first == "native")
    assert (2 if first == "native" else 1) == len(response.output)
    assert response.usage.output_tokens > 0
    assert [1, 1] == [len(rig.vendor.asked(one)) for one in asked_of(first)]


def asked_of(first: str) -> tuple[str, str]:
    return ("native", "claude") if first == "native" else ("alpha", "native")


def test_claude_goes_on_with_a_response(rig: Rig):
    """From what was told, where no thought was."""
    rig.vendor.script("alpha", Story(piece_s=SLOW, cut_after=40))
    rig.vendor.script("claude", claude_tells((" ", *TOKENS[40:])))
    name = "mixed"

    response, _ = responded(rig, name)

    assert TEXT == response.output_text
    (asked,) = rig.vendor.asked("claude")
    last = asked.json["messages"][-1]
    assert "assistant" == last["role"]
    assert TOLD.rstrip() in json.dumps(last)


def test_a_response_that_went_on_is_kept_whole(rig: Rig):
    """Somebody who asks for it later, or goes on from it, finds all of it."""
    rig.vendor.always("alpha", CUT)
    response, _ = responded(rig, "pair-restart")

    kept = client_of(rig).responses.retrieve(response.id)

    assert (TEXT, response.output[0].id) == (kept.output_text, kept.output[0].id)


def test_a_response_that_cannot_go_on_says_so(rig: Rig):
    rig.vendor.always("alpha", CUT)
    rig.vendor.always("beta", status(500))

    with pytest.raises(openai.APIError) as caught:
        responded(rig, "pair-restart")

    assert "stream_interrupted" == caught.value.code
