"""Credentials from AWS's own chain: environment, profiles, SSO, containers, instances, web tokens.

botocore finds and renews them. It blocks, so it is asked in a thread, once for all who wait; what
it gave is kept. Credentials are given out for at most `KEPT_S` after botocore was asked, and
botocore renews those that end ten minutes or more before they do.
"""

import asyncio
import os
from collections.abc import Callable

from shared.clock import Clock
from shared.errors import FailureKind, UpstreamError
from shared.providers.aws import Signer
from shared.providers.exchange import Transport

FRESH_S = 60.0
"""For so long nobody asks again; afterwards one does, while the others go on with what there is."""
KEPT_S = 300.0
"""After this nobody goes on before it has been asked again."""
REFUSED_S = 15.0
"""A refusal throws away what is older than this: not what was fetched because of the last one.

A chain that found nothing is not asked again within this time either.
"""
BEARER_VARIABLE = "AWS_BEARER_TOKEN_BEDROCK"

Chain = Callable[[], Signer]
"""Finds the credentials; blocks, and raises NoCredentials."""


class NoCredentials(Exception):
    """The chain has none; the text says why, without secrets."""


class ChainAuthorizer:
    """Gives out what a chain finds, as an adapter's secret; `new_chain` begins the search anew.

    A key of the config, or a Bedrock key in the environment (`bearer`), goes before it.
    """

    def __init__(self, new_chain: Callable[[], Chain], *, bearer: str | None = None) -> None:
        self._new_chain = new_chain
        self._bearer = bearer
        self._chain: Chain | None = None
        self._kept: Signer | None = None
        self._asked_s = 0.0
        self._asking: asyncio.Task[Signer] | None = None
        self._refused = False
        self._lack: str | None = None

    async def secret(
        self,
        secret: str | None,
        *,
        transport: Transport,  # noqa: ARG002
        clock: Clock,
    ) -> str:
        """Return the config's key, else credentials to sign with at this moment.

        Raises:
            UpstreamError: CREDENTIAL, not sent: the chain has none.
        """
        plain = secret or self._bearer
        if plain:
            return plain
        signer = self._kept
        age_s = clock.monotonic() - self._asked_s
        if self._refused and age_s > REFUSED_S:
            signer, self._chain = None, None
        self._refused = False
        if self._lack is not None and age_s < REFUSED_S:
            raise _none(self._lack)
        if signer is None or age_s > KEPT_S:
            signer = await asyncio.shield(self._ask(clock))
        elif age_s > FRESH_S:
            self._ask(clock)
        return signer.on(clock.now()).as_secret()

    def refused(self) -> None:
        """Take note that the last ones were not accepted."""
        self._refused = True

    def _ask(self, clock: Clock) -> "asyncio.Task[Signer]":
        """Return the asking that is under way, a new one if none is."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._find(clock))
            self._asking.add_done_callback(_look_at)
        return self._asking

    async def _find(self, clock: Clock) -> Signer:
        chain = self._chain or self._new_chain()
        try:
            found = await asyncio.to_thread(chain)
        except NoCredentials as error:
            self._lack, self._chain, self._kept = str(error), None, None
            self._asked_s = clock.monotonic()
            raise _none(self._lack) from error
        self._lack, self._chain, self._kept = None, chain, found
        self._asked_s = clock.monotonic()
        return found


def default_chain(profile: str | None) -> Chain:
    """Return a search along AWS's chain; `profile` names one of the shared config file."""
    state: list[object] = []

    def find() -> Signer:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session

        try:
            if not state:
                session = Session(profile=profile)
                state.extend((session.get_credentials(), session.get_config_variable("region")))
            credentials, region = state
            if credentials is None:
                raise NoCredentials("No AWS credentials: the chain of this process finds none.")
            frozen = credentials.get_frozen_credentials()  # type: ignore[attr-defined]
        except BotoCoreError as error:
            raise NoCredentials(f"No AWS credentials: {error}") from error
        return Signer(
            access_key=frozen.access_key,
            secret_key=frozen.secret_key,
            token=frozen.token,
            region=region if isinstance(region, str) else None,
        )

    return find


def authorizer_of(profile: str | None) -> ChainAuthorizer:
    """Return what obtains the credentials of one configured provider."""
    return ChainAuthorizer(
        lambda: default_chain(profile), bearer=os.environ.get(BEARER_VARIABLE) or None
    )


def _none(why: str) -> UpstreamError:
    return UpstreamError(FailureKind.CREDENTIAL, why, sent=False)


def _look_at(task: "asyncio.Task[Signer]") -> None:
    """Take note of a failure, which those who wait are told of, if there are any."""
    if not task.cancelled():
        task.exception()
