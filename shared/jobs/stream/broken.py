"""The end of a streamed job that cannot be run again."""

from shared.errors import GatewayError, OwnFault


class ToldInPart(Exception):
    """The answer broke off after some of it had been told, so it is never made a second time.

    `error` is why it broke.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        bug = OwnFault("The call broke inside.")
        self.error: GatewayError = error if isinstance(error, GatewayError) else bug
