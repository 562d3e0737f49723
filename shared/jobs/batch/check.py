"""Which lines of an input file cannot be made into calls, and why. Pure."""

from collections.abc import Callable
from hashlib import blake2b

import msgspec

from shared.errors import CallerError
from shared.jobs.batch.lines import LineBody, RawLine, decode_line
from shared.jobs.batch.terms import MOST_LINES

MOST_SHOWN = 50
"""Errors of one file that are told; with more the reading stops."""
LONGEST_CUSTOM_ID = 512


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The call of a line, as a job runs it."""

    body: bytes
    model: str | None = None
    user: str | None = None


Read = Callable[[bytes], Asked]
"""Returns the call of a line's body; raises CallerError when it can be none."""


class LineError(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a line, or (without a number) with the file; as in OpenAI's batches."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Check:
    """Takes the lines of a file one by one; knows at the end whether it is a good one.

    Of each line it keeps 8 bytes, the hash of its `custom_id`.
    """

    def __init__(self, endpoint: str, read: Read) -> None:
        self.count = 0
        self.errors: list[LineError] = []
        self._endpoint = endpoint
        self._read = read
        self._seen: set[int] = set()
        self._models: set[str | None] = set()

    @property
    def full(self) -> bool:
        """Whether reading on is of no use."""
        return len(self.errors) >= MOST_SHOWN or self.count > MOST_LINES

    @property
    def model(self) -> str | None:
        """The one model all lines ask for, if there is one."""
        return next(iter(self._models)) if len(self._models) == 1 else None

    def take(self, line: RawLine) -> None:
        """Check the next line."""
        self.count += 1
        error = self._mistake(line)
        if error is not None:
            self.errors.append(msgspec.structs.replace(error, line=line.number))

    def end(self) -> None:
        """Note that there are no more lines."""
        if self.count == 0:
            self.errors.append(_error("empty_file", "The file holds no request."))

    def _mistake(self, line: RawLine) -> LineError | None:
        if self.count > MOST_LINES:
            return _error("too_many_tasks", f"The file has more than {MOST_LINES:,} requests.")
        if line.raw is None:
            return _error("request_too_large", "The line is larger than a request body may be.")
        try:
            asked = decode_line(line.raw)
        except msgspec.ValidationError as error:
            return _error("invalid_request", f"The line is no batch request: {error}.")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _error("invalid_json_line", f"The line is not JSON: {error}")
        return self._of_envelope(asked) or self._of_body(asked)

    def _of_envelope(self, asked: LineBody) -> LineError | None:
        if not 0 < len(asked.custom_id) <= LONGEST_CUSTOM_ID:
            return _error(
                "invalid_request",
                f"custom_id must have 1 to {LONGEST_CUSTOM_ID} characters.",
                "custom_id",
            )
        if "\0" in asked.custom_id:  # databases cannot keep it, and another would be told
            return _error("invalid_request", "custom_id must not hold U+0000.", "custom_id")
        name = int.from_bytes(
            blake2b(asked.custom_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        )
        if name in self._seen:
            return _error(
                "duplicate_custom_id",
                f"Another line has the custom_id '{asked.custom_id[:64]}'.",
                "custom_id",
            )
        self._seen.add(name)
        if asked.method != "POST":
            return _error("invalid_request", "method must be POST.", "method")
        if asked.url != self._endpoint:
            return _error(
                "url_mismatch", f"url must be the batch's endpoint, {self._endpoint}.", "url"
            )
        return None

    def _of_body(self, asked: LineBody) -> LineError | None:
        try:
            call = self._read(bytes(asked.body))
        except CallerError as error:
            param = "body" if error.param is None else f"body.{error.param}"
            return _error(error.code, error.message, param)
        self._models.add(call.model)
        return None


def _error(code: str, message: str, param: str | None = None) -> LineError:
    return LineError(code=code, message=message, param=param)
