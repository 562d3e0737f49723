"""Which object store the settings ask for."""

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from shared.objects.folder import FolderObjects
from shared.objects.port import Objects
from shared.objects.s3 import Bucket, S3Objects
from shared.settings import Settings

FOLDER = "objects"
"""Below the data folder, where nothing else is said."""


def open_objects(settings: Settings) -> Objects:
    """Return the store; it is touched only when used."""
    url = settings.object_store_url
    if url is None:
        return FolderObjects(settings.data_dir / FOLDER)
    if url.startswith("file:"):
        return FolderObjects(Path(unquote(urlsplit(url).path)))
    return S3Objects(bucket_of(url))


def bucket_of(url: str) -> Bucket:
    """Return what `s3://bucket/prefix?endpoint=…&region=…` names."""
    parts = urlsplit(url)
    asked = dict(parse_qsl(parts.query))
    return Bucket(
        name=parts.netloc,
        prefix=unquote(parts.path).strip("/"),
        endpoint=asked.get("endpoint"),
        region=asked.get("region"),
    )
