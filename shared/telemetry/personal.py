"""Personal data in free text, by its look: what a pattern can tell, no more. Pure.

Numbers that carry a check digit are checked, so that most other numbers stay as they are.
"""

import re
from ipaddress import IPv6Address

_EMAIL = re.compile(r"(?<![\w.%+\-])[\w.%+\-]+@[\w\-]+(?:\.[\w\-]+)+")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![a-z0-9])")
_CARD = re.compile(r"(?<![\w.,+\-])[2-6]\d(?:[ \-]?\d){11,17}(?![\w\-]|[.,]\d)")
_SSN = re.compile(r"(?<![\w\-])(?!000|666|9)\d{3}([\- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w\-])")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"(?<![\w.]){_OCTET}(?:\.{_OCTET}){{3}}(?!\w|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4})?(?![\w:])")
_PHONE = re.compile(
    r"""
      (?<![\w+.])\+\d(?:[ ().\-/]{0,2}\d){7,14}(?![\w]|[.,\-/]\d)       # +49 (30) 1234-5678
    | (?<![\w+.\-])\(?[2-9]\d\d\)?[ .\-][2-9]\d\d[ .\-]\d{4}(?![\w\-]|[.,]\d)   # (415) 555-2671
    | (?<![\w+.,\-])\(?0\d{2,4}\)?[ /\-]\d{3,4}(?:[ \-]?\d{2,4}){1,2}(?![\w\-/]|[.,:]\d)  # 030 1234
    """,
    re.VERBOSE,
)
_LEAST_IBAN = 15
_LEAST_IPV6 = 6  # "::1" and "a::b" name nobody
_CARD_DIGITS = range(13, 20)


def without_personal_data(text: str) -> str:
    """Return the text with what is personal replaced by what it was, in brackets.

    E-mail addresses, phone, card and account numbers, US social security numbers, IP addresses.
    """
    if "@" in text:
        text = _EMAIL.sub("[email]", text)
    if ":" in text:
        text = _IPV6.sub(_ipv6, text)
    if not _has_digit(text):
        return text
    text = _IBAN.sub(_iban, text)
    text = _CARD.sub(_card, text)
    text = _SSN.sub("[ssn]", text)
    text = _IPV4.sub("[ip]", text)
    return _PHONE.sub("[phone]", text)


def is_card(number: int) -> bool:
    """Return whether a number may be that of a payment card."""
    text = str(number)
    return len(text) in _CARD_DIGITS and text[0] in "23456" and _luhn(text)


_has_digit = re.compile(r"\d").search


def _ipv6(found: re.Match[str]) -> str:
    text = found[0]
    if len(text) < _LEAST_IPV6:
        return text
    try:
        IPv6Address(text)
    except ValueError:
        return text
    return "[ip]"


def _card(found: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", found[0])
    return "[card]" if _luhn(digits) else found[0]


def _luhn(digits: str) -> bool:
    """Return whether the last digit fits the others, as ISO/IEC 7812-1 has it."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        double = int(digit) * (1 + place % 2)
        total += double - 9 if double > 9 else double  # noqa: PLR2004 (the sum of its digits)
    return total % 10 == 0


def _iban(found: re.Match[str]) -> str:
    """Replace the longest start that passes ISO 13616's check: words in capitals may follow."""
    text = found[0]
    for end in range(len(text), _LEAST_IBAN - 1, -1):
        if text[end - 1] != " " and _is_iban(text[:end].replace(" ", "")):
            return "[iban]" + text[end:]
    return text


def _is_iban(text: str) -> bool:
    if len(text) < _LEAST_IBAN:
        return False
    moved = text[4:] + text[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1
