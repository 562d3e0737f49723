"""`Cache-Control` of requests."""

import pytest

from shared.cache.control import PLAIN, CacheControl, read_control


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (None, PLAIN),
        (b"", PLAIN),
        (b"public, must-revalidate", PLAIN),
        (b"no-cache", CacheControl(no_cache=True)),
        (b" No-Cache , no-STORE", CacheControl(no_cache=True, no_store=True)),
        (b"max-age=60", CacheControl(max_age_s=60)),
        (b'max-age="5",no-store', CacheControl(max_age_s=5, no_store=True)),
        (b"max-age=0", CacheControl(max_age_s=0)),
        (b"max-age", CacheControl(max_age_s=0)),
        (b"max-age=-1", CacheControl(max_age_s=0)),
        (b"max-age=soon", CacheControl(max_age_s=0)),
        (b"max-age=99999999999999", CacheControl(max_age_s=9_999_999_999)),
        (b"max-age=\xb2", CacheControl(max_age_s=0)),
    ],
)
def test_what_a_request_says(header, said):
    assert said == read_control(header)
