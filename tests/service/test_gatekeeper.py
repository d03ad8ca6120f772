"""What is refused before the model reads it, and what is only warned of."""

from __future__ import annotations

from contextlib import asynccontextmanager

import httpx
import pytest
from tests.fakes import FakeVllm
from tests.gates import gate_that_says, with_gate
from tests.pictures import dicom, png
from tests.service.conftest import Gateway

from llmcxr_models.checkpoint import read_manifest
from llmcxr_models.gate import LATERAL_BY_PIXELS, Look
from llmcxr_service.app import create_app
from llmcxr_service.gatekeeper import LATERAL_BY_HEADER


async def ask(gateway, data, route="/generate-report"):
    return await gateway.client.post(route, files={"file": ("x", data)})


@pytest.mark.parametrize("modality", ["SC", "OT", ""])
@pytest.mark.parametrize("accepted", [False, True])
async def test_secondary_captures_by_option(start_gateway, modality, accepted):
    async with start_gateway(accept_secondary_capture=accepted) as gateway:
        response = await ask(gateway, dicom(Modality=modality))
        assert response.status_code == (200 if accepted else 422)
        if accepted:
            assert any("radiograph" in warning for warning in response.json()["warnings"])
        else:
            assert response.json()["type"] == "/problems/unsupported-radiograph"
            assert response.json()["reason"] == "secondary-capture"
        assert (await ask(gateway, png())).status_code == 200


async def test_laterals_by_option(start_gateway):
    data = dicom(ViewPosition="LL")
    async with start_gateway() as gateway:
        assert LATERAL_BY_HEADER in (await ask(gateway, data)).json()["warnings"]
    async with start_gateway(refuse_laterals=True) as gateway:
        response = await ask(gateway, data)
        assert (response.status_code, response.json()["reason"]) == (422, "view-position")
        assert (await ask(gateway, dicom())).status_code == 200


@pytest.fixture
def start_gated(checkpoint_path, tmp_path, make_settings):
    """Start a gateway whose checkpoint has a gate that says `look`."""

    @asynccontextmanager
    async def start(look, *, certainty=12.0, **changes):
        path = with_gate(
            checkpoint_path, tmp_path / "gated", gate_that_says(look, certainty=certainty)
        )
        manifest = read_manifest(path)
        vllm = FakeVllm(
            manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
        )
        app = create_app(
            make_settings(checkpoint=path, **changes), transport=httpx.ASGITransport(vllm.app())
        )
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as client,
        ):
            yield Gateway(client, vllm, app)

    return start


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (Look.OTHER, "no-chest-radiograph"),
        (Look.INVERTED, "inverted"),
        (Look.TURNED, "turned"),
    ],
)
async def test_certain_non_chests_are_refused(start_gated, look, reason):
    async with start_gated(look) as gateway:
        for data in (png(), dicom()):
            for route in ("/generate-report", "/reconstruct"):
                response = await ask(gateway, data, route)
                assert (response.status_code, response.json()["reason"]) == (422, reason)
        assert not gateway.vllm.requests


async def test_doubts_are_warnings(start_gated):
    # Five outputs, one of them ahead by 0.5: a chest has a probability of 0.43 then.
    async with start_gated(Look.OTHER, certainty=0.5) as gateway:
        response = await ask(gateway, png())
        assert response.status_code == 200
        assert any("doubtful" in warning for warning in response.json()["warnings"])
        assert "gate" in response.json()["timings_ms"]


@pytest.mark.parametrize(("setting", "warned"), [("warn", True), ("off", False)])
async def test_the_gate_may_only_warn_or_be_off(start_gated, setting, warned):
    async with start_gated(Look.OTHER, pixel_gate=setting) as gateway:
        response = await ask(gateway, png())
        assert response.status_code == 200
        assert bool(response.json()["warnings"]) is warned


async def test_laterals_by_pixels_are_warned_of(start_gated):
    async with start_gated(Look.LATERAL) as gateway:
        assert (await ask(gateway, png())).json()["warnings"] == [LATERAL_BY_PIXELS]
        # Said once: the header has said it already.
        warnings = (await ask(gateway, dicom(ViewPosition="LL"))).json()["warnings"]
        assert LATERAL_BY_HEADER in warnings
        assert LATERAL_BY_PIXELS not in warnings
