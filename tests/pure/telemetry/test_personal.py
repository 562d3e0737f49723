"""Personal data is hidden by its look; everything else stays as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.telemetry.personal import is_card, without_personal_data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jo.doe+x@mail.example.org.", "write to [email]."),
        ("<a@b.co>, jürgen@müller.de", "<[email]>, [email]"),
        ("mailto:a@b.co?x", "mailto:[email]?x"),
        ("call +49 30 1234567 now", "call [phone] now"),
        ("+1 (415) 555-2671", "[phone]"),
        ("+14155552671,", "[phone],"),
        ("(415) 555-2671 or 415-555-2671", "[phone] or [phone]"),
        ("tel 030 1234 5678.", "tel [phone]."),
        ("0171/1234567 it is", "[phone] it is"),
        ("card 4111 1111 1111 1111!", "card [card]!"),
        ("4111-1111-1111-1111", "[card]"),
        ("378282246310005", "[card]"),
        ("5555555555554444 and", "[card] and"),
        ("to DE89 3704 0044 0532 0130 00 AND MORE", "to [iban] AND MORE"),
        ("GB82WEST12345698765432", "[iban]"),
        ("from 192.168.0.1.", "from [ip]."),
        ("http://10.0.0.255:8080/x", "http://[ip]:8080/x"),
        ("at 2001:db8::ff00:42:8329, up", "at [ip], up"),
        ("fe80::1ff:fe23:4567:890a", "[ip]"),
        ("ssn 078-05-1120", "ssn [ssn]"),
        ("ssn 078 05 1120", "ssn [ssn]"),
    ],
)
def test_it_is_hidden(text, expected):
    assert expected == without_personal_data(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "no digits here", "user@localhost", "@decorator", "a @ b.c", "x@"),
        *("on 2026-01-15 at 10:30:45.123", "2026-01-15T10:30:45+00:00", "12:30", "1:2:3"),
        *("1234567890123456", "4111111111111112", "order 1000000000000000001"),
        *("3.14159265358979", "1,234,567.89", "-12345.678", "+1", "+12 dB", "$0.000123"),
        *("std::vector<int> a::b ::1", "x[1::2]", "C::D::E", "a:b:c:d"),
        *("1.2.3", "1.2.3.4.5", "256.1.1.1", "v1.2.3.4x"),
        *("NO93 8601 1117 948", "AB12", "ABCD12345678901234567"),
        *("000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000"),
        "550e8400-e29b-41d4-a716-446655440000",
        "max_tokens=4096, temperature=0.7, seed=1234567",
        "pages 100-200, 300 400 500, 1 2 3 4 5 6 7 8 9",
        "req_01J8ZQ4X5Y6Z7A8B9C0D1E2F3G",
    ],
)
def test_it_stays(text):
    assert text == without_personal_data(text)


@pytest.mark.parametrize(
    ("number", "expected"), [(4111111111111111, True), (4111111111111112, False), (42, False)]
)
def test_numbers_may_be_cards(number, expected):
    assert expected == is_card(number)


@given(st.text(alphabet=st.characters(categories=("L", "Zs", "P"), exclude_characters="@:")))
def test_words_stay_as_they_are(text):
    """Without digits, `@` and `:` nothing looks like anybody."""
    assert text == without_personal_data(text)


@given(st.text(alphabet="abc 0123456789.:@-+()/DE"))
def test_hiding_twice_is_hiding_once(text):
    once = without_personal_data(text)

    assert once == without_personal_data(once)


@given(
    st.sampled_from(["a.b@c.example", "+49 30 1234567", "4111 1111 1111 1111", "10.1.2.3"]),
    st.text(alphabet="abc ,;!?\n"),
    st.text(alphabet="abc ,;!?\n"),
)
def test_it_is_found_wherever_it_stands_alone(personal, before, after):
    assert personal not in without_personal_data(f"{before} {personal} {after}")


@pytest.mark.parametrize("character", ["a", "1", "@", ":", ".", "-", " ", "+", "(", "A1"])
def test_no_text_takes_long(character):
    """Each pattern is linear: 200,000 characters of anything are done before the test times out."""
    assert without_personal_data(character * 200_000)
