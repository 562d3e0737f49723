"""`/v1/usage` and `/admin/usage`: reports as JSON and CSV."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from shared.store.ledger import insert_ledger
from tests.contract.store.makers import make_row
from tests.edge.api.conftest import MASTER_KEY

MASTER = {"authorization": f"Bearer {MASTER_KEY}"}
NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
SPAN = {"since": "2026-03-01T00:00:00Z", "until": "2026-04-01T00:00:00Z"}
DAY = timedelta(days=1)


@pytest.fixture
def rows(edge):
    """Put rows into the ledger."""

    async def insert(*rows):
        async with edge.runtime.store.write() as tx:
            await insert_ledger(tx, rows)

    return insert


@pytest.fixture
def report(http):
    """Ask for a report as the tenant; return its JSON."""

    async def ask(**asked):
        answer = await http.get("/v1/usage", params={**SPAN, **asked})
        assert 200 == answer.status_code, answer.text
        return answer.json()

    return ask


async def test_a_report_has_its_groups_behind_its_totals(rows, report):
    await rows(
        make_row("a", ended_at=NOON, cost_nanousd=1_500_000_000),
        make_row("b", ended_at=NOON + DAY, model="x"),
        make_row("c", ended_at=NOON, tenant_id="other"),
    )

    found = await report(group_by="day,model")

    data = found.pop("data")
    assert ("usage", "acme", "UTC", ["day", "model"], 2, "1.500001") == tuple(
        found[name] for name in ("object", "tenant", "timezone", "group_by", "requests", "cost_usd")
    )
    assert {
        "day": "2026-03-05",
        "model": "pm",
        "requests": 1,
        "attempts": 1,
        "input_tokens": 10,
        "output_tokens": 2,
        "cache_read_tokens": 0,
        "reasoning_tokens": 0,
        "cost_usd": "1.5",
        "cost_nanousd": 1_500_000_000,
        "unpriced_attempts": 0,
        "estimated_attempts": 0,
        "cache_hits": 0,
        "saved_usd": "0",
        "saved_nanousd": 0,
    } == data[0]
    assert [("2026-03-05", "pm"), ("2026-03-06", "x")] == [(o["day"], o["model"]) for o in data]


async def test_groups_by_what_not_every_call_has(rows, report):
    await rows(
        make_row("a", ended_at=NOON, user="bob", tags={"team": "search"}),
        make_row("b", ended_at=NOON + timedelta(minutes=59)),
    )

    users = (await report(group_by="user"))["data"]
    hours = (await report(group_by="hour,tag:team,tag:team"))["data"]

    assert [(None, None), ("bob", None)] == [(one["user"], one["saved_usd"]) for one in users]
    assert [("2026-03-05T12:00:00Z", None), ("2026-03-05T12:00:00Z", "search")] == [
        (one["hour"], one["tag:team"]) for one in hours
    ]


async def test_days_are_those_of_the_zone_that_is_asked_for(rows, report):
    await rows(make_row(ended_at=NOON + timedelta(hours=11, minutes=30)))

    [berlin] = (await report(group_by="day", timezone="Europe/Berlin"))["data"]

    assert "2026-03-06" == berlin["day"]


async def test_filters_narrow_all_figures(rows, report):
    await rows(
        make_row("a", ended_at=NOON, tags={"team": "search"}, cost_nanousd=5),
        make_row("b", ended_at=NOON, user="bob"),
    )

    found = await report(tag="team=search", key="key_1", group_by="user")

    assert (1, 5, None) == (found["attempts"], found["cost_nanousd"], found["saved_usd"])
    assert [None] == [one["user"] for one in found["data"]]


async def test_csv_is_safe_to_open(rows, http):
    """What a caller called himself is text to a spreadsheet, whatever it begins with."""
    users = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\uff1d1", 'a"b,c', "Zoë"]
    await rows(*(make_row(f"a{n}", user=user, ended_at=NOON) for n, user in enumerate(users)))
    await rows(make_row("adj", adjusts="a8", user="Zoë", ended_at=NOON, cost_nanousd=-3_000))

    answer = await http.get("/v1/usage", params={**SPAN, "group_by": "user", "format": "csv"})

    assert "text/csv; charset=utf-8" == answer.headers["content-type"]
    assert 'attachment; filename="usage.csv"' == answer.headers["content-disposition"]
    head, *lines = csv.reader(io.StringIO(answer.text, newline=""))
    assert ["user", "requests", "attempts"] == head[:3]
    quoted = {f"'{user}" for user in users[:7]}
    assert quoted | set(users[7:]) == {line[0] for line in lines}
    assert {len(head)} == {len(line) for line in lines}
    assert "-0.000002" in {line[head.index("cost_usd")] for line in lines}


@pytest.mark.parametrize("form", ["csv", "json"])
async def test_long_reports_come_whole(rows, http, form):
    """Page by page: the groups of all pages, each once, in order."""
    await rows(*(make_row(f"a{n}", user=f"u{n:05}", ended_at=NOON) for n in range(2_500)))

    answer = await http.get("/v1/usage", params={**SPAN, "group_by": "user", "format": form})

    if form == "csv":
        found = [line[0] for line in csv.reader(io.StringIO(answer.text))][1:]
    else:
        found = [one["user"] for one in json.loads(answer.text)["data"]]
    assert [f"u{n:05}" for n in range(2_500)] == found


async def test_operators_see_all_tenants(rows, http):
    await rows(make_row("a", ended_at=NOON), make_row("b", tenant_id="other", ended_at=NOON))

    async def ask(**asked):
        answer = await http.get("/admin/usage", params={**SPAN, **asked}, headers=MASTER)
        return answer.json()

    whole = await ask(group_by="tenant")
    one = await ask(tenant="other")

    assert (None, 2, ["acme", "other"]) == (
        whole["tenant"], whole["attempts"], [group["tenant"] for group in whole["data"]],
    )  # fmt: skip
    assert ("other", 1, 1) == (one["tenant"], one["attempts"], len(one["by_model"]))
    assert 403 == (await http.get("/admin/usage")).status_code


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"group_by": "colour"}, "group_by"),
        ({"group_by": ""}, "group_by"),
        ({"group_by": "tag:"}, "group_by"),
        ({"group_by": "day,key,user,model,provider"}, "group_by"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"timezone": "../etc/passwd"}, "timezone"),
        ({"timezone": "Europe"}, "timezone"),
        ({"timezone": "a\x00"}, "timezone"),
        ({"tag": "team"}, "tag"),
        ({"format": "xml"}, "format"),
        ({"since": "yesterday"}, "since"),
    ],
)
async def test_what_cannot_be_asked_is_refused(http, asked, param):
    answer = await http.get("/v1/usage", params=asked)

    assert (400, param) == (answer.status_code, answer.json()["error"]["param"])


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "1969-01-01T00:00:00Z"])
async def test_spans_of_any_length(http, since):
    """The days of all the calendar, in a zone whose clocks change twice a year."""
    asked = {"since": since, "until": "9999-12-31T23:59:59Z", "group_by": "day"}

    answer = await http.get("/v1/usage", params={**asked, "timezone": "Europe/Berlin"})

    assert (200, []) == (answer.status_code, answer.json()["data"])
