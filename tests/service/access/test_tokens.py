"""Tokens: whom they let in, and an issuer that changes its keys, goes away or lies."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.responses import RedirectResponse, Response
from tests.service.access.conftest import Trusted
from tests.service.access.issuer import AUDIENCE, ISSUER, ec_key, part, rsa_key

from llmcxr_service.access.issuer_keys import IssuerKeys
from llmcxr_service.access.measures import DoorMeasures
from llmcxr_service.access.tokens import Tokens
from llmcxr_service.errors import IssuerUnavailable, Unauthenticated


class Clock:
    """Seconds that tests move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Open = Callable[..., Any]


@pytest.fixture
def opened(trusted: Trusted, clock: Clock) -> Open:
    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Tokens]:
        keys = IssuerKeys(
            f"{trusted.url}/keys",
            ssl.create_default_context(),
            cache_seconds=300.0,
            stale_seconds=3600.0,
            clock=clock,
        )
        options = {
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "algorithms": ["RS256", "ES256"],
            "scope_claim": "scope",
            "leeway_seconds": 30.0,
        }
        tokens = Tokens(keys, **{**options, **changes})
        try:
            yield tokens
        finally:
            await tokens.close()

    return start


async def cause(tokens: Tokens, token: str) -> str:
    with pytest.raises(Unauthenticated) as refused:
        await tokens.recognise(token)
    return refused.value.cause


async def test_good_tokens(opened: Open, trusted: Trusted) -> None:
    issuer = trusted.issuer
    issuer.keys["curve"] = ec_key()
    async with opened() as tokens:
        caller = await tokens.recognise(issuer.token(scope="openid report:generate"))
        assert caller.scopes == {"report:generate"}
        assert caller.id.startswith("token:")
        assert "SMITH" not in caller.id
        listed = issuer.token(scope=["admin"], aud=["other", AUDIENCE])
        assert (await tokens.recognise(listed)).scopes == {"admin"}
        curve = issuer.token(kid="curve", key=issuer.keys["curve"])
        assert (await tokens.recognise(curve)).id == caller.id
        assert (await tokens.recognise(issuer.token(sub="another"))).id != caller.id
    assert issuer.fetched == 1


async def test_another_claim_may_hold_scopes(opened: Open, trusted: Trusted) -> None:
    async with opened(scope_claim="roles") as tokens:
        token = trusted.issuer.token(scope=None, roles=["metrics:read", 7])
        assert (await tokens.recognise(token)).scopes == {"metrics:read"}


async def test_clocks_may_differ_by_the_leeway(opened: Open, trusted: Trusted) -> None:
    issuer, now = trusted.issuer, int(time.time())
    async with opened() as tokens:
        assert await tokens.recognise(issuer.token(exp=now - 10, nbf=now + 10))
        assert await cause(tokens, issuer.token(exp=now - 60)) == "expired"
        assert await cause(tokens, issuer.token(nbf=now + 60)) == "not-yet"
        assert await cause(tokens, issuer.token(iat=now + 60)) == "not-yet"


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_causes_for_the_operator(opened: Open, trusted: Trusted) -> None:
    issuer = trusted.issuer
    issuer.keys["small"] = rsa_key(1024)
    issuer.keys["curve"] = ec_key()
    async with opened() as tokens:
        assert await cause(tokens, issuer.token(aud="x")) == "audience"
        assert await cause(tokens, issuer.token(iss="x")) == "issuer"
        assert await cause(tokens, issuer.token(sub=None)) == "claims"
        assert await cause(tokens, issuer.unsigned()) == "algorithm"
        assert await cause(tokens, issuer.confused()) == "algorithm"
        assert await cause(tokens, issuer.token(key=rsa_key())) == "signature"
        assert await cause(tokens, issuer.token(kid="x")) == "signing-key"
        # A key of another kind than the algorithm, and one that is too short.
        assert await cause(tokens, issuer.token(kid="curve")) == "signing-key"
        small = issuer.token(kid="small", key=issuer.keys["small"])
        assert await cause(tokens, small) == "signing-key"
        critical = f"{part({'alg': 'RS256', 'kid': 'first', 'crit': ['x']})}.e30.e30"
        assert await cause(tokens, critical) in {"algorithm", "malformed"}


@pytest.mark.parametrize(
    "token",
    ["", "x", "..", "a.b.c", "." * 10, "x" * 20000, f"{part({'alg': ['RS256']})}.e30.e30", "[]"],
)
async def test_malformed_tokens(opened: Open, token: str) -> None:
    async with opened() as tokens:
        with pytest.raises(Unauthenticated):
            await tokens.recognise(token)


@pytest.mark.parametrize(
    "claims",
    [{"exp": "soon"}, {"exp": 1e400}, {"nbf": []}, {"aud": 7}, {"sub": ""}, {"iss": ["x"]}],
    ids=str,
)
async def test_claims_of_other_kinds(
    opened: Open, trusted: Trusted, claims: dict[str, Any]
) -> None:
    import jwt

    headers = {"kid": "first"}
    async with opened() as tokens:
        try:
            token = jwt.encode(
                trusted.issuer.claims(**claims), trusted.issuer.keys["first"], "RS256", headers
            )
        except TypeError:
            pytest.skip("the library does not write such a token")
        with pytest.raises(Unauthenticated):
            await tokens.recognise(token)


async def test_rotation(opened: Open, trusted: Trusted, clock: Clock) -> None:
    issuer = trusted.issuer
    old = issuer.token()
    async with opened() as tokens:
        assert await tokens.recognise(old)
        # A new key is found as soon as a token names it ...
        issuer.keys["second"] = rsa_key()
        clock.now += 11
        new = issuer.token(kid="second", key=issuer.keys["second"])
        assert await tokens.recognise(new)
        # ... and a removed one is refused once the cache is over.
        del issuer.keys["first"]
        clock.now += 301
        assert await tokens.recognise(new)
        await tokens._keys.find("third")
        assert await cause(tokens, old) == "signing-key"


async def test_invented_key_ids_make_nobody_busy(
    opened: Open, trusted: Trusted, clock: Clock
) -> None:
    async with opened() as tokens:
        for number in range(50):
            await cause(tokens, trusted.issuer.token(kid=f"invented-{number}"))
        assert trusted.issuer.fetched == 1
        clock.now += 11
        await cause(tokens, trusted.issuer.token(kid="invented"))
        assert trusted.issuer.fetched == 2


@pytest.mark.parametrize(
    "answer",
    [
        Response(status_code=500),
        Response("no json"),
        Response('{"keys": []}'),
        Response("[" * 100_000),
        Response(b" " * 300_000),
        RedirectResponse("/elsewhere"),
    ],
    ids=["error", "no json", "no keys", "deep", "long", "redirection"],
)
async def test_an_outage_is_survived_for_a_while(
    opened: Open, trusted: Trusted, clock: Clock, answer: Response
) -> None:
    issuer = trusted.issuer
    token = issuer.token()
    async with opened() as tokens:
        assert await tokens.recognise(token)
        issuer.answer = answer
        clock.now += 3000
        assert await tokens.recognise(token)
        clock.now += 700
        with pytest.raises(IssuerUnavailable):
            await tokens.recognise(token)
        issuer.answer = None
        clock.now += 11
        assert await tokens.recognise(token)


async def test_an_issuer_that_was_never_there(clock: Clock, trusted: Trusted) -> None:
    registry = CollectorRegistry()
    keys = IssuerKeys(
        "http://127.0.0.1:9/keys",
        ssl.create_default_context(),
        cache_seconds=1.0,
        stale_seconds=1.0,
        clock=clock,
        measures=DoorMeasures(registry),
    )
    with pytest.raises(IssuerUnavailable):
        await keys.find("first")
    fetches = "llmcxr_issuer_fetches_total"
    assert registry.get_sample_value(fetches, {"outcome": "failed"}) == 1
    assert registry.get_sample_value(fetches, {"outcome": "done"}) == 0
    assert registry.get_sample_value("llmcxr_issuer_keys_timestamp_seconds") == 0
    await keys.close()


async def test_addresses_in_a_token_are_never_fetched(opened: Open, trusted: Trusted) -> None:
    import jwt

    headers = {"kid": "first", "jku": f"{trusted.url}/evil", "x5u": f"{trusted.url}/evil"}
    issuer = trusted.issuer
    token = jwt.encode(issuer.claims(iss=f"{trusted.url}/evil"), rsa_key(), "RS256", headers)
    async with opened() as tokens:
        assert await cause(tokens, token) == "signature"
    # The issuer's application fails on any other path than that of its keys.
    assert issuer.fetched == 1
