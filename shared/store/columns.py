"""Column types that mean the same on SQLite and on PostgreSQL."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from typing_extensions import override

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Return microseconds since the epoch, exactly.

    Raises:
        ValueError: the moment does not say its zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a moment needs its zone")
    return (moment - EPOCH) // MICROSECOND


def micros_of(moments: Iterable[datetime]) -> list[int]:
    """Return the same of many moments, which all say their zone and are nearly in order.

    A second is worked out once for all that are in it: to divide takes twice as long as the rest.
    """
    found: list[int] = []
    first = last = EPOCH
    at_us = 0
    for moment in moments:
        if not first <= moment <= last:
            first, last = moment.replace(microsecond=0), moment.replace(microsecond=999_999)
            at_us = micros(first)
        found.append(at_us + moment.microsecond)
    return found


def moment_of(at_us: int) -> datetime:
    """Return the moment, aware, in UTC; the reverse of `micros`."""
    return EPOCH + timedelta(microseconds=at_us)


class Moment(sa.TypeDecorator[datetime]):
    """An aware moment, kept as microseconds since the epoch: SQLite has no type for one."""

    impl = sa.BigInteger
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else micros(value)

    @override
    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else moment_of(value)


class Words(sa.TypeDecorator[str]):
    """Text from anyone.

    PostgreSQL refuses NUL and neither database takes half a surrogate pair; both become the
    replacement character, because a ledger row must not fail on what a caller calls himself.
    """

    impl = sa.Text
    cache_ok = True

    @override
    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or (value.isascii() and "\x00" not in value):
            return value
        whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.replace("\x00", "\ufffd")


class Document(sa.TypeDecorator[Any]):
    """A value of the given type as JSON text, never searched by the database."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, type_: object) -> None:
        super().__init__()
        self.type_ = type_
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(type_)

    @override
    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    @override
    def process_result_value(self, value: str | None, dialect: Dialect) -> object:
        return None if value is None else self._decoder.decode(value)
