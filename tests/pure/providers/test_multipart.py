"""Forms read in place: what a client writes is found, and only what is changed changes."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest
from shared.providers.dialects.multipart import MAX_PARTS, read_form, with_fields

NAMES = st.text("abcdefgh_[]", min_size=1, max_size=8)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)


def written(fields, file=b"", boundary=None):
    headers = {}
    if boundary is not None:
        headers["content-type"] = f"multipart/form-data; boundary={boundary}"
    request = httpx.Request(
        "POST", "http://x", data=fields, files={"file": ("a.wav", file)}, headers=headers
    )
    return request.headers["content-type"], request.read()


@given(fields=st.dictionaries(NAMES, TEXTS, max_size=5), file=st.binary(max_size=200))
def test_what_a_client_writes_is_found(fields, file):
    kind, raw = written(fields, file)
    form = read_form(kind, raw)

    assert fields == {name: form.text(raw, name) for name in fields}
    part = form.part("file")
    assert (file, True) == (raw[part.start : part.end], part.is_file)


@given(
    fields=st.dictionaries(NAMES, TEXTS, max_size=5),
    new=st.dictionaries(NAMES, TEXTS, min_size=1, max_size=3),
    file=st.binary(max_size=200),
)
def test_only_what_is_changed_changes(fields, new, file):
    kind, raw = written(fields, file)
    changed = with_fields(raw, read_form(kind, raw), new)
    form = read_form(kind, changed)

    expected = {**fields, **new}
    assert expected == {name: form.text(changed, name) for name in expected}
    part = form.part("file")
    assert file == changed[part.start : part.end]


def test_a_boundary_in_quotes_and_a_file_that_nearly_holds_it():
    kind, raw = written({"model": "m"}, b"\r\n--edg \r\n--edg", boundary='"edge one"')

    assert "m" == read_form(kind, raw.replace(b'"edge one"', b"edge one")).text(
        raw.replace(b'"edge one"', b"edge one"), "model"
    )


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=", b"--x--"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"{}"),
        ("multipart/form-data; boundary=x", b"--x"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nno end',
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * (MAX_PARTS + 1)
            + b"--x--",
        ),
    ],
)
def test_what_is_no_form_is_refused(kind, raw):
    with pytest.raises(InvalidRequest):
        read_form(kind, raw)


def test_a_text_is_no_file_and_is_utf_8():
    kind, raw = written({"a": "x"}, b"\xff")
    form = read_form(kind, raw)

    assert form.text(raw, "missing") is None
    with pytest.raises(InvalidRequest, match="not a file"):
        form.text(raw, "file")
    with pytest.raises(InvalidRequest, match="UTF-8"):
        form.text(raw.replace(b"\r\n\r\nx\r\n", b"\r\n\r\n\xff\r\n"), "a")
