"""A receiver of webhooks, and a desk to run jobs at."""

import os
import random

import pytest

from shared.clock import SystemClock
from shared.ids import new_id
from shared.sealing import Sealer
from shared.store.keys import ensure_tenant
from shared.webhooks.signature import new_secret
from tests.edge.workers.makers import RecordingBell, make_desk
from tests.edge.workers.receiver import running_receiver


@pytest.fixture
async def receiver():
    async with running_receiver() as running:
        yield running


@pytest.fixture
def bell():
    return RecordingBell()


@pytest.fixture
async def tenant(store):
    """The tenant that the jobs of these tests belong to."""
    async with store.write() as tx:
        secret = Sealer("k").seal(new_secret(os.urandom))
        return await ensure_tenant(tx, "acme", secret, await tx.now())


@pytest.fixture
def desk(store, bell, tenant):
    """A desk whose call answers at once; tests replace the call."""
    return make_desk(store=store, bell=bell, clock=SystemClock(), ids=new_id, draw=random.random)
