"""A fresh object store of each kind."""

import socket

import pytest
from botocore.session import Session

from shared.objects.folder import FolderObjects
from shared.objects.s3 import S3Objects
from shared.objects.wiring import bucket_of

BUCKET = "objects"
PREFIX = "some/prefix"


@pytest.fixture(scope="module")
async def _s3_objects(_aws_process):
    """One store for all tests: to begin with S3 takes a tenth of a second."""
    url = f"s3://{BUCKET}/{PREFIX}?endpoint={_aws_process}&region=us-east-1"
    opened = S3Objects(bucket_of(url))
    yield opened
    await opened.aclose()


@pytest.fixture(scope="module")
def _s3(_aws_process):
    return Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=_aws_process,
        aws_access_key_id="tests",
        aws_secret_access_key="tests",
    )


@pytest.fixture
def s3(_s3, aws_url):
    """A client of S3, with an empty bucket."""
    _s3.create_bucket(Bucket=BUCKET)
    for found in _s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        _s3.delete_object(Bucket=BUCKET, Key=found["Key"])
    return _s3


@pytest.fixture
def s3_objects(s3, _s3_objects):
    """The store in that bucket."""
    return _s3_objects


@pytest.fixture
async def folder_objects(tmp_path):
    """A store in a folder."""
    opened = FolderObjects(tmp_path / "objects")
    yield opened
    await opened.aclose()


@pytest.fixture(params=["folder", "s3"])
def objects(request):
    """An empty object store; the test runs once on each kind."""
    return request.getfixturevalue(f"{request.param}_objects")


@pytest.fixture
def unused_port():
    """A port on which nobody listens, held so that nobody will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
