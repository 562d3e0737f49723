"""Named requests: one owner at a time, one answer from then on."""

import asyncio
from datetime import timedelta

import pytest

from shared.store.idempotency import (
    KEPT_FOR,
    Earlier,
    Named,
    bind_job,
    keep_answer,
    let_go,
    prolong_name,
    prune_names,
    take_name,
)
from tests.contract.store.makers import START

LOCK_S = 30.0
HEADERS = {"content-type": "application/json"}


def named(key="k", *, tenant_id="acme", route="POST /v1/jobs"):
    return Named(tenant_id=tenant_id, route=route, key=key)


async def take(store, owner, name=None, fingerprint="f"):
    async with store.write() as tx:
        return await take_name(
            tx, name or named(), fingerprint=fingerprint, owner=owner, lock_s=LOCK_S
        )


async def answer(store, owner, body=b"{}"):
    async with store.write() as tx:
        return await keep_answer(tx, named(), owner=owner, status=200, headers=HEADERS, body=body)


async def go(store, owner):
    async with store.write() as tx:
        await let_go(tx, named(), owner=owner)


def locked(fingerprint="f"):
    return Earlier(
        fingerprint=fingerprint, locked=True, job_id=None, status=None, headers={}, body=None
    )


async def test_one_of_many_at_once_answers(store):
    found = await asyncio.gather(*(take(store, f"own_{number}") for number in range(6)))

    assert [None] == [one for one in found if one is None]
    assert 5 == found.count(locked())


@pytest.mark.parametrize(
    "other",
    [named("l"), named(tenant_id="other"), named(route="POST /v1/batches")],
    ids=["key", "tenant", "route"],
)
async def test_a_name_is_a_tenants_own_on_its_route(store, other):
    await take(store, "one")

    assert await take(store, "two", other) is None


async def test_an_answer_is_found_again(store):
    await take(store, "one")
    assert await answer(store, "one", b"\x00\xff")
    await go(store, "one")

    assert Earlier(
        fingerprint="f", locked=False, job_id=None, status=200, headers=HEADERS, body=b"\x00\xff"
    ) == await take(store, "two", fingerprint="g")


async def test_who_lets_go_unanswered_leaves_the_name_free(store):
    await take(store, "one")
    await go(store, "two")  # not his to let go of
    assert locked() == await take(store, "two")

    await go(store, "one")

    assert await take(store, "two", fingerprint="g") is None
    assert locked("g") == await take(store, "three")


async def test_the_name_of_an_owner_that_died_is_free_when_his_lock_ends(store, clock):
    """What he writes when he was only slow changes nothing."""
    await take(store, "one")
    clock.forward(LOCK_S - 1)
    async with store.write() as tx:
        assert await prolong_name(tx, named(), owner="one", lock_s=LOCK_S)
    clock.forward(LOCK_S - 1)
    assert locked() == await take(store, "two")
    clock.forward(1)

    assert await take(store, "two") is None
    assert not await answer(store, "one")
    async with store.write() as tx:
        assert not await prolong_name(tx, named(), owner="one", lock_s=LOCK_S)
        assert not await bind_job(tx, named(), owner="one", job_id="job_1", until=START)
    await go(store, "one")
    assert locked() == await take(store, "three")


async def test_a_name_that_became_a_job_is_never_free(store, clock):
    """Its answer may have been lost on the way; the job was not."""
    await take(store, "one")
    async with store.write() as tx:
        assert await bind_job(
            tx, named(), owner="one", job_id="job_1", until=START + timedelta(days=2)
        )
    await go(store, "one")
    clock.forward(KEPT_FOR.total_seconds() + LOCK_S)

    found = await take(store, "two")

    assert found is not None
    assert ("job_1", None, False) == (found.job_id, found.status, found.locked)


async def test_names_expire_and_are_pruned(store, clock):
    await take(store, "one")
    await answer(store, "one")
    clock.forward(KEPT_FOR.total_seconds() - 1)
    await take(store, "two", named("young"))
    clock.forward(1)

    async with store.write() as tx:
        assert 1 == await prune_names(tx, await tx.now())

    assert await take(store, "three") is None
    assert locked() == await take(store, "three", named("young"))


async def test_an_expired_name_is_free_before_it_is_pruned(store, clock):
    await take(store, "one")
    await answer(store, "one")
    clock.forward(KEPT_FOR.total_seconds())

    assert await take(store, "two") is None
    assert locked() == await take(store, "three")
