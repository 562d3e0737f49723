"""The mail server of the config's alerts."""

import pytest

from shared.config.mail import MailServer, mail_server

ENDS = "?from=gw@example.com&to=ops@example.com"


def read(start: str, more: str = "") -> MailServer:
    return mail_server(start + ENDS + more)


def test_a_url_says_it_all():
    found = read("smtp://me%40x:p%3Aw@mail.example.com:2525", "&to=b@c.d,e@f.g")

    assert ("mail.example.com", 2525, "me@x", "p:w") == (
        found.host,
        found.port,
        found.user,
        found.password,
    )
    assert ("ops@example.com", "b@c.d", "e@f.g") == found.recipients


@pytest.mark.parametrize(
    ("start", "more", "expected"),
    [
        ("smtp://mail", "", (587, "optional")),
        ("smtp://u:p@mail", "", (587, "required")),  # nobody else hears the password
        ("smtp://u:p@127.0.0.1:25", "", (25, "optional")),
        ("smtp://mail", "&tls=required", (587, "required")),
        ("smtp://u:p@mail", "&tls=off", (587, "off")),
        ("smtps://u:p@mail", "", (465, "implicit")),
        ("smtps://mail/", "", (465, "implicit")),
    ],
)
def test_a_password_goes_encrypted_unless_told_otherwise(start, more, expected):
    found = read(start, more)

    assert expected == (found.port, found.tls)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mail.example.com",
        "http://mail" + ENDS,
        "smtp://" + ENDS,
        "smtp://mail",
        "smtp://mail:99999" + ENDS,
        "smtp://mail?from=a@b.c",
        "smtp://mail?to=a@b.c",
        "smtp://mail?from=a@b.c&to=",
        "smtp://mail?from=a@b.c&to=nobody",
        "smtp://mail?from=a@b.c&to=x@y.z%0aBcc:e@f.g",
        "smtp://mail" + ENDS + "&tls=maybe",
        "smtp://mail" + ENDS + "&x=1",
    ],
)
def test_what_is_wrong_is_said_without_repeating_it(text):
    with pytest.raises(ValueError, match=r"^(must be such as|tls must|from and to must)"):
        mail_server(text)
