"""A conversation with Gemini: its rules hold whatever a caller sends."""

import base64

import pytest

from shared.chat.message import (
    AudioPart,
    FilePart,
    ImagePart,
    Message,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
)
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.gemini_models import gemini
from shared.providers.dialects.gemini_names import DUMMY_SIGNATURE
from shared.providers.dialects.gemini_parts import fetched_by_us
from shared.providers.request import FetchedFile
from tests.pure.providers.gemini_questions import answered, built, calling, contents, part, said

PIXEL = base64.b64encode(b"pixel").decode()


@pytest.mark.behaviour(2)
def test_leading_instructions_are_one_system_field():
    body = built(said("system", "a"), said("developer", "b"), said("user", "c")).body

    assert {"parts": [{"text": "a"}, {"text": "b"}]} == body["systemInstruction"]
    assert [{"role": "user", "parts": [{"text": "c"}]}] == body["contents"]


def test_blocks_of_one_instruction_do_not_run_into_each_other():
    parts = (TextPart(text="You are kind."), TextPart(text=""), TextPart(text="Be brief."))
    body = built(Message(role="system", parts=parts), said("user")).body

    sent = {"parts": [{"text": "You are kind."}, {"text": "Be brief."}]}
    assert sent == body["systemInstruction"]


@pytest.mark.behaviour(3)
def test_a_system_message_in_mid_conversation_stays_at_its_place():
    body = built(
        said("user", "a"), said("assistant", "b"), said("system", "c"), said("user", "d")
    ).body

    assert "systemInstruction" not in body
    assert [{"text": "<system>\nc\n</system>"}, {"text": "d"}] == body["contents"][-1]["parts"]


@pytest.mark.behaviour(6)
def test_two_turns_of_the_user_are_one():
    (content,) = contents(said("user", "a"), said("user", "b"))

    assert {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]} == content


@pytest.mark.parametrize(
    ("messages", "roles"),
    [
        pytest.param([said("assistant", "a")], ["user", "model"], marks=pytest.mark.behaviour(21)),
        pytest.param([said("system", "a")], ["user"], marks=pytest.mark.behaviour(22)),
        pytest.param([said("user", ""), said("assistant", "b")], ["user", "model"]),
        pytest.param([said("user"), said("assistant", ""), said("user")], ["user"]),
        pytest.param([said("user", "")], ["user"]),
    ],
)
def test_a_conversation_begins_with_the_user_and_has_no_empty_turn(messages, roles):
    found = contents(*messages)

    assert roles == [content["role"] for content in found]
    assert all(content["parts"] for content in found)


@pytest.mark.behaviour(19)
def test_results_stand_alone_even_before_more_of_the_user():
    found = contents(
        said("user"),
        calling(("a", "f"), ("b", "g")),
        said("user", "early"),
        answered("b"),
        answered("a"),
        said("user", "late"),
    )

    assert ["user", "model", "user", "user"] == [content["role"] for content in found]
    assert ["f", "g"] == [one["functionResponse"]["name"] for one in found[2]["parts"]]
    assert [{"text": "early"}, {"text": "late"}] == found[3]["parts"]


def test_a_turn_after_results_is_not_put_into_them():
    """An assistant who said nothing leaves no turn, so that two of the user's meet."""
    found = contents(
        said("user"), calling(("a", "f")), answered("a"), said("assistant", ""), said("user", "b")
    )

    assert [{"text": "b"}] == found[-1]["parts"]


@pytest.mark.behaviour(11)
@pytest.mark.parametrize(
    ("messages", "names"),
    [
        ([said("user"), answered("nobody")], "nobody"),
        ([said("user"), calling(("lost", "f"))], "lost"),
        ([said("user"), calling(("lost", "f")), said("assistant"), answered("lost")], "lost"),
    ],
)
def test_calls_and_results_that_do_not_match_are_named(messages, names):
    with pytest.raises(InvalidRequest, match=names) as caught:
        built(*messages)

    assert "messages" == caught.value.param


@pytest.mark.behaviour(20)
@pytest.mark.parametrize(
    ("text", "response"),
    [
        ("sunny", {"output": "sunny"}),
        ("", {"output": ""}),
        ("[1, 2]", {"output": [1, 2]}),
        ("12345678901234567890", {"output": "12345678901234567890"}),
        ('{"sun": true}', {"sun": True}),
        ('{"$ref": "#/a"}', {"output": '{"$ref": "#/a"}'}),
        ("{broken", {"output": "{broken"}),
    ],
)
def test_results_become_objects(text, response):
    found = contents(said("user"), calling(("a", "f")), answered("a", text))

    assert response == found[-1]["parts"][0]["functionResponse"]["response"]


def test_a_failed_tool_says_so():
    found = contents(said("user"), calling(("a", "f")), answered("a", "no", is_error=True))

    assert {"error": "no"} == found[-1]["parts"][0]["functionResponse"]["response"]


@pytest.mark.behaviour(16, 17, 34)
@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        ("", {}),
        (" ", {}),
        ('{"a": "\\ud83d\\ude42\\u0000\\u202e"}', {"a": "🙂\x00\u202e"}),
        ("[1]", {"input": [1]}),
        ("free", {"input": "free"}),
        ("[" * 5_000, {"input": "[" * 5_000}),
    ],
)
def test_arguments_become_objects(arguments, args):
    call = ToolCall(id="a", name="f", arguments=arguments)
    found = contents(said("user"), Message(role="assistant", tool_calls=(call,)), answered("a"))

    assert args == found[1]["parts"][0]["functionCall"]["args"]


@pytest.mark.behaviour(32, 33)
def test_names_are_left_out_and_refusals_are_texts():
    found = contents(
        said("user", name="Ann"), Message(role="assistant", parts=(RefusalPart(text="no"),))
    )

    assert {"role": "user", "parts": [{"text": "x"}]} == found[0]
    assert [{"text": "no"}] == found[1]["parts"]


PROOFS = [
    # signature kept by the caller, model, on Vertex, what is sent
    ("QUJD", "gemini-3-flash", False, "QUJD"),
    ("vertex:QUJD", "gemini-3-flash", True, "QUJD"),
    ("QUJD", "gemini-3-flash", True, DUMMY_SIGNATURE),
    ("vertex:QUJD", "gemini-3-flash", False, DUMMY_SIGNATURE),
    (None, "gemini-3-flash", False, DUMMY_SIGNATURE),
    (None, "gemini-2.5-flash", False, None),
    ("QUJD", "gemini-2.5-flash", False, "QUJD"),
]


@pytest.mark.behaviour(78, 79)
@pytest.mark.parametrize(("kept", "model", "vertex", "sent"), PROOFS)
def test_proofs_of_thought_go_where_they_are_good_for(kept, model, vertex, sent):
    calls = (
        ToolCall(id="a", name="f", arguments="{}", signature=kept),
        ToolCall(id="b", name="f", arguments="{}"),
    )
    turn = Message(role="assistant", tool_calls=calls)
    _, made, _ = contents(
        said("user"), turn, answered("a"), answered("b"), model=model, vertex=vertex
    )

    first, second = made["parts"]
    assert sent == first.get("thoughtSignature")
    assert "thoughtSignature" not in second


@pytest.mark.parametrize("dialect", ["anthropic", None])
def test_thoughts_of_others_are_not_sent(dialect):
    thought = Reasoning(text="hm", signature="s", dialect=dialect)
    _, model = contents(said("user"), said("assistant", "a", reasoning=(thought,)))

    assert [{"text": "a"}] == model["parts"]


@pytest.mark.parametrize(
    ("one", "sent"),
    [
        pytest.param(
            ImagePart(url=f"data:image/jpg;base64,{PIXEL}"),
            {"inlineData": {"mimeType": "image/jpeg", "data": PIXEL}},
            id="data_url",
        ),
        pytest.param(
            ImagePart(url="https://a.example/cat.PNG?x=1"),
            {"fileData": {"mimeType": "image/png", "fileUri": "https://a.example/cat.PNG?x=1"}},
            id="link",
            marks=pytest.mark.behaviour(37),
        ),
        pytest.param(
            AudioPart(data=PIXEL, format="mp3"),
            {"inlineData": {"mimeType": "audio/mp3", "data": PIXEL}},
            id="sound",
        ),
        pytest.param(
            FilePart(filename="a.pdf", data_url=f"data:application/pdf;base64,{PIXEL}"),
            {"inlineData": {"mimeType": "application/pdf", "data": PIXEL}},
            id="paper",
            marks=pytest.mark.behaviour(40),
        ),
        pytest.param(
            FilePart(filename="a.txt", data_url=PIXEL),
            {"inlineData": {"mimeType": "text/plain", "data": PIXEL}},
            id="bare_base64",
        ),
        pytest.param(
            FilePart(file_id="files/abc"), {"fileData": {"fileUri": "files/abc"}}, id="googles"
        ),
        pytest.param(
            FilePart(url="https://youtu.be/x"),
            {"fileData": {"fileUri": "https://youtu.be/x"}},
            id="video",
        ),
    ],
)
def test_media(one, sent):
    assert sent == part(one)


@pytest.mark.behaviour(37)
def test_vertex_is_always_told_a_type():
    link = part(ImagePart(url="https://a.example/cat"), vertex=True)

    assert "image/jpeg" == link["fileData"]["mimeType"]


def test_what_was_fetched_goes_inside():
    url = "https://a.example/cat"
    files = {url: FetchedFile(media_type="image/png; q=1", content=b"pixel")}

    assert {"inlineData": {"mimeType": "image/png", "data": PIXEL}} == part(
        ImagePart(url=url), files=files
    )


@pytest.mark.parametrize(
    "url",
    [f"DATA:image/png;base64,{PIXEL}", "data:image/png;base64,cGl4\r\nZWw", "data:image/png,pixel"],
)
def test_data_urls_of_any_spelling(url):
    """Broken lines, no padding, no base64: callers write them all, and Google takes one."""
    assert {"inlineData": {"mimeType": "image/png", "data": PIXEL}} == part(ImagePart(url=url))


@pytest.mark.behaviour(43)
@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,@@@",
        "data:image/png;base64,",
        "data:image/png",
        f"data:application/x-thing;base64,{PIXEL}",
        "ftp://a.example/cat.png",
        "cat.png",
    ],
)
def test_broken_media_are_refused_before_the_call(url):
    with pytest.raises(InvalidRequest) as caught:
        part(ImagePart(url=url))

    assert "messages" == caught.value.param


def test_a_file_of_another_provider_is_refused():
    with pytest.raises(UnsupportedParameter):
        part(FilePart(file_id="file-abc"))


@pytest.mark.parametrize(
    ("model", "fetched"),
    [("gemini-3-flash", ["https://a/b"]), ("gemini-2.0-flash", ["https://a/b", "https://a/b.png"])],
)
def test_links_are_fetched_where_the_model_cannot(model, fetched):
    links = (
        "https://a/b",
        "https://a/b.png",
        "https://youtu.be/x",
        f"data:image/png;base64,{PIXEL}",
    )
    message = Message(role="user", parts=tuple(ImagePart(url=url) for url in links))

    assert fetched == fetched_by_us((message,), gemini(model))


@pytest.mark.behaviour(42)
@pytest.mark.parametrize("model", ["gemini-3-flash", "gemini-2.5-flash"])
def test_a_picture_in_a_result(model):
    """In the result where the model takes it, else in the user's turn that follows."""
    picture = ImagePart(url=f"data:image/png;base64,{PIXEL}")
    result = Message(role="tool", tool_call_id="a", parts=(TextPart(text="see"), picture))
    found = contents(said("user"), calling(("a", "f")), result, model=model)
    inline = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}

    (response,) = (one["functionResponse"] for one in found[2]["parts"])
    assert {"output": "see"} == response["response"]
    if model == "gemini-3-flash":
        assert [inline] == response["parts"]
    else:
        assert [{"text": "What f returned:"}, inline] == found[3]["parts"]
