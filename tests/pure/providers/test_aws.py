"""Signatures like botocore's own, and credentials that are there when a call needs them."""

import asyncio
import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from shared.config.model import ProviderConfig
from shared.errors import FailureKind, OwnFault, UpstreamError
from shared.providers.adapters.bedrock import BedrockAdapter
from shared.providers.aws import Signer, signed, signer_in
from shared.providers.aws_chain import (
    FRESH_S,
    KEPT_S,
    REFUSED_S,
    ChainAuthorizer,
    NoCredentials,
    default_chain,
)
from shared.providers.request import InferenceRequest, RequestHead
from shared.providers.target import Target
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEYS = Signer(access_key="AKID", secret_key="a-secret", token="a-token")
URL = "https://bedrock-runtime.eu-west-1.amazonaws.com/model/a.b-v1%3A0/converse"


def test_a_signature_is_botocores():
    headers = {"content-type": "application/json", "accept": "x"}
    ours = signed(headers, url=URL, body=b"{}", region="eu-west-1", signer=KEYS.on(AT))

    theirs = AWSRequest("POST", URL, headers={"content-type": "application/json"}, data=b"{}")
    theirs.context["timestamp"] = "20261121T120000Z"
    auth = SigV4Auth(SimpleNamespace(access_key="AKID", secret_key="a-secret", token="a-token"),
                     "bedrock", "eu-west-1")  # fmt: skip
    auth._modify_request_before_signing(theirs)
    text = auth.string_to_sign(theirs, auth.canonical_request(theirs))

    assert ours["authorization"].endswith(auth.signature(text, theirs))
    assert ("20261121T120000Z", "a-token") == (ours["x-amz-date"], ours["x-amz-security-token"])


def test_credentials_pass_as_a_secret_and_plain_keys_stay_plain():
    assert KEYS.on(AT) == signer_in(KEYS.on(AT).as_secret())
    assert [None, None, None] == [signer_in(None), signer_in("bedrock-api-key"), signer_in("{x")]


class Chains:
    """A chain that says who asked, in which thread; `lack` makes it find nothing."""

    def __init__(self) -> None:
        self.searches = 0
        self.finds: list[str] = []
        self.lack = False

    def new(self):
        self.searches += 1
        return self.find

    def find(self) -> Signer:
        self.finds.append(threading.current_thread().name)
        if self.lack:
            raise NoCredentials("none")
        return Signer(access_key=f"key-{len(self.finds)}", secret_key="s")


class Asking:
    """An authorizer on a clock."""

    def __init__(self, bearer=None) -> None:
        self.chains = Chains()
        self.clock = FakeClock()
        self.authorizer = ChainAuthorizer(self.chains.new, bearer=bearer)

    async def secret(self, secret=None) -> str:
        return await self.authorizer.secret(secret, transport=None, clock=self.clock)

    async def key(self) -> str:
        return signer_in(await self.secret()).access_key


@pytest.fixture
def asking() -> Asking:
    return Asking()


async def test_the_configs_key_and_the_environments_go_first():
    asking = Asking(bearer="from-environment")

    assert ["own", "from-environment"] == [await asking.secret("own"), await asking.secret()]
    assert 0 == asking.chains.searches


async def test_credentials_are_found_off_the_loop_once_for_all_who_wait(asking):
    keys = await asyncio.gather(*(asking.key() for _ in range(20)))

    assert {"key-1"} == set(keys)
    assert [threading.main_thread().name] != asking.chains.finds
    assert 1 == len(asking.chains.finds)


async def test_each_call_is_signed_at_its_own_moment(asking):
    first = signer_in(await asking.secret()).at
    asking.clock.advance(1)

    assert ("20260301T120000Z", "20260301T120001Z") == (first, signer_in(await asking.secret()).at)


async def test_old_ones_are_asked_for_again_beside_and_very_old_ones_before_the_call(asking):
    await asking.key()
    asking.clock.advance(FRESH_S + 1)
    assert "key-1" == await asking.key()
    await asking.authorizer._asking
    assert "key-2" == await asking.key()

    asking.clock.advance(KEPT_S + 1)
    assert "key-3" == await asking.key()
    assert 1 == asking.chains.searches


async def test_refused_ones_are_searched_for_anew_but_not_at_every_refusal(asking):
    await asking.key()
    asking.authorizer.refused()
    assert "key-1" == await asking.key()

    asking.clock.advance(REFUSED_S + 1)
    asking.authorizer.refused()
    assert "key-2" == await asking.key()
    assert 2 == asking.chains.searches


async def test_a_chain_without_credentials_fails_the_attempt_and_is_left_in_peace(asking):
    asking.chains.lack = True
    for _ in range(3):
        with pytest.raises(UpstreamError) as caught:
            await asking.secret()
        assert (FailureKind.CREDENTIAL, False) == (caught.value.kind, caught.value.sent)
    assert 1 == len(asking.chains.finds)

    asking.chains.lack = False
    asking.clock.advance(REFUSED_S + 1)
    assert "key-2" == await asking.key()


async def test_a_caller_that_leaves_takes_nothing_from_the_others(asking):
    waiting = [asyncio.ensure_future(asking.key()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()

    assert "key-1" == await waiting[1]


def test_the_default_chain_reads_profiles(tmp_path, monkeypatch):
    file = tmp_path / "credentials"
    file.write_text(
        "[team]\naws_access_key_id = AKTEAM\naws_secret_access_key = s\nregion = eu-x-1\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    assert ("AKTEAM", "eu-x-1") == (
        default_chain("team")().access_key,
        default_chain("team")().region,
    )
    with pytest.raises(NoCredentials):
        default_chain(None)()
    with pytest.raises(NoCredentials, match="other"):
        default_chain("other")()


CHAT = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'


def exchange(model="a.b-v1:0", secret="key", raw=CHAT, endpoint="/v1/chat/completions", **provider):
    return BedrockAdapter().exchange(
        ProviderConfig(kind="bedrock", **provider),
        secret,
        InferenceRequest(endpoint=endpoint, dialect="openai", raw=raw, head=RequestHead(model="m")),
        Target(provider="p", model=model),
    )


@pytest.mark.parametrize(
    ("asked", "host"),
    [
        ({"region": "us-west-2"}, "bedrock-runtime.us-west-2.amazonaws.com"),
        ({"region": "cn-north-1"}, "bedrock-runtime.cn-north-1.amazonaws.com.cn"),
        (
            {"secret": Signer(access_key="a", secret_key="s", region="eu-x-1").on(AT).as_secret()},
            "bedrock-runtime.eu-x-1.amazonaws.com",
        ),
        (
            {"model": "arn:aws-us-gov:bedrock:us-gov-west-1:1:inference-profile/x"},
            "bedrock-runtime.us-gov-west-1.amazonaws.com",
        ),
    ],
)
def test_the_region_is_found_where_it_is_told(asked, host):
    assert host == exchange(**asked).request.url.split("/")[2]


def test_without_a_region_nothing_can_be_asked():
    with pytest.raises(OwnFault, match="region"):
        exchange()


@pytest.mark.behaviour(185)
def test_titan_is_asked_once_for_each_text():
    raw = b'{"model":"m","input":["a","b","c"]}'
    made = exchange("amazon.titan-embed-text-v2:0", raw=raw, endpoint="/v1/embeddings",
                    region="us-east-1")  # fmt: skip

    assert [b'{"inputText":"a"}', b'{"inputText":"b"}', b'{"inputText":"c"}'] == [
        one.body for one in made.requests
    ]
