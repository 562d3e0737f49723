"""Files inside JSON are read as their senders meant them, or refused."""

import pytest

from shared.errors import InvalidRequest
from shared.providers.dialects.data_url import DataUrl, read_data_url


@pytest.mark.parametrize(
    ("url", "media_type", "content"),
    [
        ("data:image/png;base64,AAEC", "image/png", b"\0\1\2"),
        ("DATA:Image/JPG;charset=x;Base64,AAEC", "image/jpeg", b"\0\1\2"),
        ("data:image/png;base64,AA E\r\nC", "image/png", b"\0\1\2"),
        ("data:image/png;base64,-_8", "image/png", b"\xfb\xff"),
        ("data:image/png;base64,AA%3D%3D", "image/png", b"\0"),
        ("data:,a%20b", "text/plain", b"a b"),
        ("data:text/csv,a,b", "text/csv", b"a,b"),
    ],
)
def test_what_it_holds(url, media_type, content):
    found = read_data_url(url)

    assert (media_type, content) == (found.media_type, found.content)


@pytest.mark.behaviour(43)
@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64",
        "https://a.org/,",
        "data:image/png;base64,A",
        "data:a;base64,ä",
        "data:image/png;base64,",
        "data:image/png,",
    ],
)
def test_what_is_broken_is_refused(url):
    with pytest.raises(InvalidRequest) as caught:
        read_data_url(url, where="messages[0]")

    assert "messages[0]" == caught.value.param


def test_bytes_become_one():
    assert DataUrl(media_type="image/jpeg", base64="AAE=") == DataUrl.of("image/JPG; q=1", b"\0\1")
