"""`/v1/uploads`: a file in parts becomes one file, once."""

import asyncio
import hashlib

import openai
import pytest

from tests.edge.api.files.forms import objects_in

pytestmark = pytest.mark.anyio

PARTS = [b"one,", b"two,", b"three"]
WHOLE = b"".join(PARTS)
SIZE = len(WHOLE)


async def begun(sdk, size=SIZE, **values):
    return await sdk.uploads.create(
        **{"bytes": size, "filename": "in.jsonl", "mime_type": "text/jsonl", "purpose": "batch"}
        | values
    )


async def sent(sdk, upload, parts=PARTS):
    return [(await sdk.uploads.parts.create(upload.id, data=part)).id for part in parts]


async def test_parts_become_a_file_in_the_order_asked_for(sdk, edge):
    """Sent in any order; the MD5 is checked, the expiry is the file's, the parts are gone."""
    upload = await begun(sdk, expires_after={"anchor": "created_at", "seconds": 3600})
    three, two, one = await sent(sdk, upload, PARTS[::-1])

    done = await sdk.uploads.complete(
        upload.id, part_ids=[one, two, three], md5=hashlib.md5(WHOLE).hexdigest()
    )

    assert ("pending", None, "completed") == (upload.status, upload.file, done.status)
    assert 3600 == upload.expires_at - upload.created_at
    assert ("in.jsonl", "batch", len(WHOLE), 3600) == (
        done.file.filename,
        done.file.purpose,
        done.file.bytes,
        done.file.expires_at - done.file.created_at,
    )
    assert WHOLE == (await sdk.files.content(done.file.id)).content
    assert [f"files/{done.file.id}"] == await objects_in(edge)


async def test_the_sdk_cuts_a_large_file_by_itself(sdk, tmp_path):
    """`upload_file_chunked`, in parts of three bytes."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(WHOLE)

    done = await sdk.uploads.upload_file_chunked(
        file=path, mime_type="text/jsonl", purpose="batch", part_size=3
    )

    assert WHOLE == (await sdk.files.content(done.file.id)).content


async def test_completing_twice_makes_one_file(sdk, edge):
    """A caller whose answer was lost asks again, also at the same time."""
    upload = await begun(sdk)
    ids = await sent(sdk, upload)

    done = await asyncio.gather(*(sdk.uploads.complete(upload.id, part_ids=ids) for _ in range(3)))
    again = await sdk.uploads.complete(upload.id, part_ids=[])

    assert 1 == len({one.file.id for one in (*done, again)})
    assert 1 == len(await objects_in(edge))
    with pytest.raises(openai.ConflictError):
        await sent(sdk, upload)
    with pytest.raises(openai.ConflictError):
        await sdk.uploads.cancel(upload.id)


async def test_a_cancelled_upload_is_over(sdk, edge):
    upload = await begun(sdk)
    ids = await sent(sdk, upload)

    cancelled = [(await sdk.uploads.cancel(upload.id)).status for _ in range(2)]

    assert ["cancelled", "cancelled"] == cancelled
    assert [] == await objects_in(edge)
    for asking in (sent(sdk, upload), sdk.uploads.complete(upload.id, part_ids=ids)):
        with pytest.raises(openai.ConflictError):
            await asking


@pytest.mark.parametrize(
    ("pick", "more"),
    [
        (slice(0, 2), {}),
        (slice(0, 0), {}),
        ((0, 1, 2, 2), {}),
        ((0, 1, 2, "part_of_nobody"), {}),
        (slice(None), {"md5": "0" * 32}),
    ],
    ids=["too few", "none", "one twice", "unknown", "another MD5"],
)
async def test_what_does_not_add_up_is_no_file(sdk, edge, pick, more):
    """The upload stays as it was: the caller can mend it."""
    upload = await begun(sdk)
    ids = await sent(sdk, upload)
    chosen = (
        ids[pick]
        if isinstance(pick, slice)
        else [one if isinstance(one, str) else ids[one] for one in pick]
    )

    with pytest.raises(openai.BadRequestError):
        await sdk.uploads.complete(upload.id, part_ids=chosen, **more)

    assert [] == [one async for one in sdk.files.list()]
    assert "completed" == (await sdk.uploads.complete(upload.id, part_ids=ids)).status


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"purpose": "batch_output"}, "purpose"),
        ({"size": 0}, "bytes"),
        ({"filename": ""}, "filename"),
        ({"filename": "", "size": 10**15}, "filename"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after[seconds]"),
        ({"expires_after": {"anchor": None, "seconds": None}}, "expires_after[anchor]"),
        ({"expires_after": {}}, "expires_after.anchor"),
        ({"expires_after": {"anchor": "created_at"}}, "expires_after.seconds"),
    ],
)
async def test_a_wrong_upload_is_refused(sdk, values, param):
    with pytest.raises(openai.BadRequestError) as refused:
        await begun(sdk, **values)

    assert param == refused.value.param


async def test_parts_may_not_pass_what_was_announced(sdk, edge):
    """Nor may the announcement pass what a file may have."""
    upload = await begun(sdk)

    with pytest.raises(openai.APIStatusError) as refused:
        await sent(sdk, upload, [WHOLE, b"more"])
    assert 413 == refused.value.status_code
    with pytest.raises(openai.BadRequestError):
        await sent(sdk, upload, [b""])
    with pytest.raises(openai.APIStatusError) as refused:
        await begun(sdk, 200 * 1024 * 1024 + 1)
    assert 413 == refused.value.status_code


async def test_an_upload_is_its_tenants_own(sdk, other):
    """To another tenant it does not exist."""
    upload = await begun(sdk)

    for path in ("complete", "cancel"):
        answer = await other.post(f"/v1/uploads/{upload.id}/{path}", json={"part_ids": []})
        assert 404 == answer.status_code
    answer = await other.post(f"/v1/uploads/{upload.id}/parts", files={"data": ("a", b"x")})
    assert 404 == answer.status_code
