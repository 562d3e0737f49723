"""A stream that broke after content: told on by another target as one answer, or ended loudly."""

import json
import time

import pytest

from tests.fakes.scripted import ROLE, TEXT, TOKENS, Story, tool_call_pieces
from tests.fakes.stack import eventually
from tests.fakes.upstream import chunk, sse, status
from tests.flows.scenes import (
    CUT,
    SILENT,
    SLOW,
    STALLED,
    TOO_LONG,
    WORDS,
    Rig,
    body_of,
    claude_tells,
    streamed,
)

TOOLS = sse(tool_call_pieces(), gap_s=SLOW, end="reset")
OTHER = tuple(f"u{number:02d} " for number in range(60))
THOUGHTS = [chunk({"reasoning_content": f"hm {number} "}) for number in range(5)]

ENDS = {
    # alpha, beta, what of the text is told
    "another telling": (CUT, Story(tokens=OTHER, prefill="refuses"), TOKENS[:40]),
    "a shorter telling": (CUT, Story(tokens=TOKENS[:30], prefill="refuses"), TOKENS[:40]),
    "a tool call": (TOOLS, Story(), ()),
    "nobody can go on": (CUT, status(500), TOKENS[:40]),
    "nobody may go on": (CUT, status(400, TOO_LONG), TOKENS[:40]),
}


@pytest.mark.parametrize("recovery", ["restart", "continue"])
@pytest.mark.parametrize("name", ENDS)
def test_what_cannot_be_rescued(rig: Rig, name: str, recovery: str):
    """It ends in an error event, and what is told is never repeated or contradicted."""
    alpha, beta, told = ENDS[name]
    rig.vendor.always("alpha", alpha)
    rig.vendor.always("beta", beta)

    seen = streamed(rig, f"able-{recovery}")

    assert ("".join(told), None, False) == (seen.text, seen.finish, seen.done)
    assert "stream_interrupted" == seen.code
    assert 1 == rig.asked()[0]
    assert ("a tool call" == name) == (0 == rig.asked()[1])


def test_a_stalled_target_is_not_asked_again(rig: Rig):
    rig.vendor.always("alpha", STALLED)

    seen = streamed(rig, "alone-continue")

    assert ("".join(TOKENS[:20]), "stream_interrupted") == (seen.text, seen.code)
    assert (1, 0) == rig.asked()


def test_a_cut_target_may_be_asked_again(rig: Rig):
    """When it is the only one there is."""
    rig.vendor.script("alpha", CUT)

    assert (TEXT, True) == ((seen := streamed(rig, "alone-continue")).text, seen.done)
    assert (2, 0) == rig.asked()


def test_a_prefill_that_is_passed_over_is_found_out(rig: Rig):
    """The target is said to take one, and tells all of it again."""
    rig.vendor.always("alpha", CUT)

    seen = streamed(rig, "able-continue")

    assert (TEXT, "stop", True) == (seen.text, seen.finish, seen.done)
    assert (1, 1) == rig.asked()


def test_an_answer_may_be_gone_on_with_twice(rig: Rig):
    """Each time after what is out, and with what of it the next one can take."""
    rig.vendor.script("alpha", CUT)
    rig.vendor.script("beta", Story(prefill="takes", piece_s=SLOW, cut_after=10))
    rig.vendor.always("beta", Story(prefill="takes"))

    seen = streamed(rig, "able-continue")

    assert (TEXT, "stop", True) == (seen.text, seen.finish, seen.done)
    assert (1, 2) == rig.asked()
    assert ["".join(TOKENS[:40]), "".join(TOKENS[:50])] == [
        request.json["messages"][-1]["content"] for request in rig.vendor.asked("beta")
    ]
    # Ten of the tokens that were there already are told again with each question, and paid for.
    assert 1 == len(seen.ids)


def test_the_limit_of_an_attempt_goes_nowhere_else(rig: Rig):
    """A stream that flows is ended by it, and nobody else is asked."""
    rig.vendor.always("alpha", Story(piece_s=0.05))

    seen = streamed(rig, "short")

    assert seen.text
    assert TEXT.startswith(seen.text)
    assert (False, "stream_interrupted") == (seen.done, seen.code)
    assert (1, 0) == rig.asked()


def test_thoughts_are_not_told_twice(rig: Rig):
    """The second one's are another mind's."""
    words = [chunk({"content": token}) for token in TOKENS[:40]]
    rig.vendor.always("alpha", sse([ROLE, *THOUGHTS, *words], gap_s=SLOW, end="reset"))
    rig.vendor.always("beta", sse([ROLE, *THOUGHTS, *WORDS[1:]]))

    body = body_of("able-continue", stream=True)
    answer = rig.http.post("/v1/chat/completions", json=body)

    assert 5 == answer.text.count("hm ")
    assert [1] * 60 == [answer.text.count(f'"{token}"') for token in TOKENS]
    assert answer.text.endswith("data: [DONE]\n\n")


def test_a_finish_without_an_end_mark_needs_nobody_else(rig: Rig):
    """All has been said when the connection breaks."""
    rig.vendor.script("alpha", sse(WORDS[:-1], gap_s=SLOW, end="reset"))

    assert (TEXT, True) == ((seen := streamed(rig, "pair-continue")).text, seen.done)
    assert (1, 0) == rig.asked()


@pytest.mark.behaviour(159)
@pytest.mark.parametrize(
    ("model", "completion"), [("pair-restart", (1000, 60)), ("able-continue", (None, None))]
)
def test_failover_accounting(rig: Rig, model: str, completion: tuple[int | None, int | None]):
    """A row for every attempt; the cost the caller reads is that of all of them."""
    rig.vendor.script("alpha", CUT)
    rig.vendor.always("beta", Story(prefill="takes"))
    name = f"accounts-{model}"

    seen = streamed(rig, model, request_id=name)

    assert TEXT == seen.text
    first, second = rig.stack.wait_for_ledger(name, 2)
    assert ("alpha", "interrupted", 1) == (first["provider"], first["outcome"], first["estimated"])
    assert ("beta", "succeeded", 0) == (second["provider"], second["outcome"], second["estimated"])
    assert 40 <= first["output_tokens"] <= 80
    told = 1000 + 40 * (model == "able-continue"), 60 - 40 * (model == "able-continue")
    assert told == (second["input_tokens"], second["output_tokens"])
    cost = first["cost_nanousd"] + second["cost_nanousd"]
    assert f"{cost / 1e9:.9f}".rstrip("0") == f"{seen.cost_usd:.9f}".rstrip("0")
    usage = seen.usage or {}
    if completion[0] is not None:
        assert completion == (usage["prompt_tokens"], usage["completion_tokens"])
    else:  # what was said before it was asked counts as answer, by a guess
        assert 1060 == usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["completion_tokens"] > 50


@pytest.mark.behaviour(143)
def test_who_leaves_while_it_is_gone_on_with_starts_nothing(rig: Rig):
    """The second call ends within a second, and both are in the books."""
    rig.vendor.script("alpha", CUT)
    rig.vendor.always("beta", SILENT)
    name = "leaves-in-recovery"

    with rig.http.stream(
        "POST",
        "/v1/chat/completions",
        json=body_of("able-restart", stream=True),
        headers={"x-request-id": name},
    ) as answer:
        seen = answer.iter_raw()
        eventually(lambda: next(seen) and rig.asked()[1])
    left_s = time.monotonic()

    connection = rig.vendor.connections[rig.vendor.asked("beta")[0].connection]
    closed_at_s = eventually(lambda: connection.closed_at_s)
    assert closed_at_s - left_s < 1
    rows = rig.stack.wait_for_ledger(name, 2)
    assert ["interrupted", "cancelled"] == [row["outcome"] for row in rows]
    assert (1, 1) == rig.asked()


def told_in_anthropics(rig: Rig, model: str) -> list[dict[str, object]]:
    """Ask on `/v1/messages` and return the events."""
    body = body_of(model, stream=True, max_tokens=500)
    answer = rig.http.post("/v1/messages", json=body)
    assert 200 == answer.status_code, answer.text
    events = [event.split("\n") for event in answer.text.rstrip("\n").split("\n\n")]
    found = [json.loads(data.removeprefix("data: ")) for _, data in events]
    assert [kind.removeprefix("event: ") for kind, _ in events] == [one["type"] for one in found]
    return found


def message_of(events: list[dict[str, object]]) -> tuple[str, list[str]]:
    """Return the text, and the events' order with repeated ones once."""
    text = "".join(one["delta"]["text"] for one in events if one["type"] == "content_block_delta")
    order: list[str] = []
    for one in events:
        if not order or order[-1] != one["type"]:
            order.append(str(one["type"]))
    return text, order


ONE_MESSAGE = [
    "message_start", "content_block_start", "content_block_delta", "content_block_stop",
    "message_delta", "message_stop",
]  # fmt: skip


def test_claude_goes_on_from_a_prefill(rig: Rig):
    """Asked in OpenAI's words; the white space that Anthropic refuses is not sent."""
    rig.vendor.script("alpha", CUT)
    rig.vendor.script("claude", claude_tells((" ", *TOKENS[40:])))

    seen = streamed(rig, "mixed")

    assert (TEXT, "stop", True, None) == (seen.text, seen.finish, seen.done, seen.code)
    (asked,) = rig.vendor.asked("claude")
    last = asked.json["messages"][-1]
    assert "assistant" == last["role"]
    assert "".join(TOKENS[:40]).rstrip() in json.dumps(last)
    assert 1 == len(seen.ids)


@pytest.mark.parametrize("model", ["claudes", "mixed"])
def test_a_message_is_one_message(rig: Rig, model: str):
    """Asked in Anthropic's words: relayed, then translated, and the other way round."""
    rig.vendor.script("claude", claude_tells(TOKENS[:40], whole=False, gap_s=SLOW, end="reset"))
    if model == "mixed":
        rig.vendor.script("alpha", CUT)
        rig.vendor.forget_scripts()
        rig.vendor.script("alpha", CUT)
        rig.vendor.script("claude", claude_tells((" ", *TOKENS[40:])))

    events = told_in_anthropics(rig, model)

    assert (TEXT, ONE_MESSAGE) == message_of(events)
    assert {0} == {one["index"] for one in events if "index" in one}


def test_a_message_that_ended_its_text_is_not_gone_on_with(rig: Rig):
    """Its block is closed: nothing can follow in it."""
    pieces = claude_tells(TOKENS).pieces[:-2]
    rig.vendor.script("claude", sse(pieces, gap_s=SLOW, end="reset"))

    events = told_in_anthropics(rig, "claudes")

    assert "error" == events[-1]["type"]
    assert (0, 0) == rig.asked()


@pytest.mark.parametrize("model", ["alone-off", "pair-restart"])
def test_a_stream_that_counts_nothing_tells_what_it_is_charged(rig: Rig, model: str):
    """By estimate, and with all attempts in it."""
    if model == "pair-restart":
        rig.vendor.script("alpha", CUT)
    rig.vendor.always("alpha", Story(usage=False))
    rig.vendor.always("beta", Story(usage=False))
    name = f"uncounted-{model}"

    seen = streamed(rig, model, request_id=name)

    rows = rig.stack.wait_for_ledger(name, 1 + (model == "pair-restart"))
    assert [1] * len(rows) == [row["estimated"] for row in rows]
    assert (TEXT, True, None) == (seen.text, seen.done, seen.usage)
    assert sum(row["cost_nanousd"] for row in rows) == round(seen.cost_usd * 10**9)
