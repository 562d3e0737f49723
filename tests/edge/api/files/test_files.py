"""`/v1/files`: what goes in comes out, for its tenant only, in forms as clients write them."""

import httpx
import msgspec
import openai
import pytest
from botocore.session import Session

from api.app import create_app
from api.handlers.files import shelves_of
from api.main import open_edge
from shared.errors import ObjectsUnavailable
from shared.files.keeping import prune_files
from shared.runtime import open_runtime
from tests.edge.api.conftest import KEY
from tests.edge.api.files.forms import LINES, objects_in, put, rows_in

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.mark.behaviour(189)
async def test_a_file_is_kept_as_it_came(http):
    """The bytes are the caller's, also those that look like the form's own."""
    given = (await put(http)).json()

    read = (await http.get(f"/v1/files/{given['id']}")).json()
    content = await http.get(f"/v1/files/{given['id']}/content")

    assert given == read
    assert ("file", len(LINES), "in.jsonl", "batch", "processed") == tuple(
        given[name] for name in ("object", "bytes", "filename", "purpose", "status")
    )
    assert LINES == content.content
    assert "application/octet-stream" == content.headers["content-type"]
    assert "attachment; filename*=UTF-8''in.jsonl" == content.headers["content-disposition"]
    assert content.headers["x-request-id"]


@pytest.mark.behaviour(189)
async def test_a_deleted_file_is_gone(http, edge):
    """For the caller at once, and from the disk."""
    given = (await put(http)).json()

    deleted = await http.delete(f"/v1/files/{given['id']}")

    assert {"id": given["id"], "object": "file", "deleted": True} == deleted.json()
    for path in ("", "/content"):
        assert 404 == (await http.get(f"/v1/files/{given['id']}{path}")).status_code
    assert 404 == (await http.delete(f"/v1/files/{given['id']}")).status_code
    assert [] == await objects_in(edge)


@pytest.mark.behaviour(189)
async def test_a_file_is_its_tenants_own(http, other):
    """To another tenant it does not exist."""
    given = (await put(http)).json()

    for ask in (other.get, other.delete):
        assert 404 == (await ask(f"/v1/files/{given['id']}")).status_code
    assert 404 == (await other.get(f"/v1/files/{given['id']}/content")).status_code
    assert [] == (await other.get("/v1/files")).json()["data"]
    assert 200 == (await http.get(f"/v1/files/{given['id']}")).status_code


@pytest.mark.behaviour(189)
@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("größe 漢字 🙂.jsonl", "größe 漢字 🙂.jsonl"),
        ('a"b;c=d.jsonl', 'a"b;c=d.jsonl'),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\in.jsonl", "in.jsonl"),
        ("100%.jsonl", "100%.jsonl"),
    ],
)
async def test_a_file_may_have_an_unusual_name(http, filename, expected):
    """It is a label, never a path."""
    given = (await put(http, filename=filename)).json()

    assert expected == given["filename"]
    content = await http.get(f"/v1/files/{given['id']}/content")
    assert content.headers["content-disposition"].isascii()
    assert LINES == content.content


@pytest.mark.behaviour(189)
@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"content": b""}, "file"),
        ({"purpose": None}, "purpose"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"purpose": "x" * 9000}, "purpose"),
        ({"purpose": ["batch", "batch"]}, "purpose"),
        ({"filename": "x" * 256}, "file"),
        ({"filename": "folder/"}, "file"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "7200"}, "[anchor]"),
        ({"expires_after[anchor]": "created_at"}, "[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "60"}, "[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "soon"}, "[seconds]"),
    ],
)
async def test_a_wrong_file_is_refused(http, edge, change, param):
    """`param` names what is wrong, and nothing is kept."""
    answer = await put(http, **change)

    assert 400 == answer.status_code
    assert answer.json()["error"]["param"].endswith(param)
    assert [] == (await http.get("/v1/files")).json()["data"]
    assert [] == await objects_in(edge)


FORM = "multipart/form-data; boundary=x"
FILE = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
PURPOSE = b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--x--"),
        (FORM, b"--y\r\n"),
        (FORM, b"--x--\r\n"),
        (FORM, b"--x\r\ncontent-disposition: form-data\r\n\r\nx"),
        (FORM, FILE + b"half"),
        (FORM, PURPOSE + b"\xff\r\n--x--"),
        (FORM, FILE + b"1\r\n" + FILE + b"2\r\n--x--"),
        (FORM, FILE + b"1\r\n" + PURPOSE + b"batch\r\n" + PURPOSE + b"batch\r\n--x--"),
    ],
)
async def test_what_is_no_whole_form_is_refused(http, edge, kind, body):
    answer = await http.post("/v1/files", content=body, headers={"content-type": kind})

    assert (400, "invalid_request") == (answer.status_code, answer.json()["error"]["code"])
    assert [] == await objects_in(edge)


async def test_fields_may_stand_behind_the_file(http):
    """As `curl -F file=@x -F purpose=batch` sends them."""
    body = FILE + b"hello\r\n" + PURPOSE + b"batch\r\n--x--\r\n"

    answer = await http.post("/v1/files", content=body, headers={"content-type": FORM})

    assert ("batch", 5) == (answer.json()["purpose"], answer.json()["bytes"])


@pytest.mark.parametrize("announced", [True, False])
async def test_a_file_may_be_larger_than_a_body_but_not_than_a_file(http, edge, announced):
    """`server.max_body_mb` is 1 here, `files.max_upload_mb` 24."""
    assert 200 == (await put(http, b"x" * (2 * MIB))).status_code

    async def endless():
        yield FILE
        for _ in range(30):
            yield b"x" * MIB

    kind = {"content-type": FORM}
    if announced:
        kind["content-length"] = str(30 * MIB)
    answer = await http.post("/v1/files", content=endless(), headers=kind)

    assert (413, "request_too_large") == (answer.status_code, answer.json()["error"]["code"])
    assert 1 == len(await objects_in(edge))


async def test_files_expire_when_it_was_said(http, edge):
    """The input of a batch after 30 days, else when its caller says, or never."""
    batch = (await put(http)).json()
    terms = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    hour = (await put(http, purpose="user_data", **terms)).json()
    ever = (await put(http, purpose="user_data")).json()

    assert 30 * 86_400 == batch["expires_at"] - batch["created_at"]
    assert 3_600 == hour["expires_at"] - hour["created_at"]
    assert ever["expires_at"] is None


async def test_a_list_goes_on_where_the_page_before_ended(http):
    """Newest first unless asked otherwise; one purpose if asked."""
    names = [f"{number}.jsonl" for number in range(5)]
    for name in names:
        await put(http, filename=name, purpose="batch" if name != "2.jsonl" else "vision")

    async def listed(**query):
        found, after = [], {}
        while True:
            page = (await http.get("/v1/files", params=query | after)).json()
            found += [one["filename"] for one in page["data"]]
            if not page["has_more"]:
                return found
            assert page["data"][-1]["id"] == page["last_id"]
            after = {"after": page["last_id"]}

    assert names[::-1] == await listed(limit=2)
    assert names == await listed(limit=3, order="asc")
    assert [name for name in names if name != "2.jsonl"] == await listed(
        limit=1, order="asc", purpose="batch"
    )
    for wrong in ({"limit": 0}, {"limit": 10_001}, {"order": "up"}):
        assert 400 == (await http.get("/v1/files", params=wrong)).status_code


async def test_every_call_of_the_sdk_works(sdk):
    """Create, retrieve, content, list with paging, wait and delete."""
    made = [
        await sdk.files.create(
            file=(f"{number}.jsonl", LINES),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        for number in range(3)
    ]

    assert made[0] == await sdk.files.retrieve(made[0].id)
    assert made[0] == await sdk.files.wait_for_processing(made[0].id)
    assert 3600 == made[0].expires_at - made[0].created_at
    assert LINES == (await sdk.files.content(made[0].id)).content
    assert made == [one async for one in sdk.files.list(limit=2, order="asc", purpose="batch")]
    assert (await sdk.files.delete(made[0].id)).deleted
    with pytest.raises(openai.NotFoundError):
        await sdk.files.retrieve(made[0].id)


async def test_files_may_lie_in_a_bucket(settings, aws_url):
    """All the same, on S3."""
    client = Session().create_client("s3", region_name="us-east-1", endpoint_url=aws_url)
    client.create_bucket(Bucket="files-of-callers")
    url = f"s3://files-of-callers/here?endpoint={aws_url}&region=us-east-1"
    settings = msgspec.structs.replace(settings, object_store_url=url)
    async with open_runtime(settings, role="api") as runtime, open_edge(runtime) as edge:
        transport = httpx.ASGITransport(create_app(edge))
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://gateway", headers=headers
        ) as http:
            given = (await put(http)).json()
            content = await http.get(f"/v1/files/{given['id']}/content")
            before = client.list_objects_v2(Bucket="files-of-callers")["KeyCount"]
            await http.delete(f"/v1/files/{given['id']}")

    assert LINES == content.content
    assert 1 == before
    assert "Contents" not in client.list_objects_v2(Bucket="files-of-callers")


async def test_without_the_object_store_nothing_is_accepted(http, edge):
    """A full disk, say: 503, and the caretaker finds what is left."""
    folder = edge.runtime.settings.data_dir / "objects"
    folder.write_bytes(b"in the way")

    answer = await put(http)

    assert (503, "store_unavailable") == (answer.status_code, answer.json()["error"]["code"])
    assert [] == (await http.get("/v1/files")).json()["data"]


async def test_a_file_whose_bytes_cannot_be_deleted_is_gone_all_the_same(http, edge):
    """For its tenant; the bytes go when they can."""
    given = (await put(http)).json()
    folder = edge.runtime.settings.data_dir / "objects"
    folder.rename(folder.with_name("away"))
    folder.write_bytes(b"in the way")

    assert (await http.delete(f"/v1/files/{given['id']}")).json()["deleted"]
    assert 404 == (await http.get(f"/v1/files/{given['id']}")).status_code
    with pytest.raises(ObjectsUnavailable):
        await prune_files(shelves_of(edge))

    folder.unlink()
    folder.with_name("away").rename(folder)
    assert not await prune_files(shelves_of(edge))
    assert [] == await objects_in(edge)
    assert [] == await rows_in(edge)
