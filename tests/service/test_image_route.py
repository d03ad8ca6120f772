"""POST /generate-image and /reconstruct: real PNGs from a real (random) VQ-GAN."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from tests.pictures import dicom, png

from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_models.preprocess import to_grey8
from llmcxr_service.quality import compare
from llmcxr_service.rendering import TRAINED_ALGORITHMIC_MEDIA

REPORT = "Findings: The lungs are clear. Impression: Normal."


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


async def test_a_png_says_where_it_comes_from(gateway, checkpoint):
    response = await gateway.client.post("/generate-image", json={"report": REPORT, "seed": 11})
    assert response.headers["content-type"] == "image/png"
    image = opened(response.content)
    assert (image.mode, image.size) == ("L", (64, 64))
    assert image.text["AI-generated"] == "yes"
    assert image.text["Model"] == "tiny 0.0.1"
    assert image.text["Model-Digest"] == f"sha256:{checkpoint.manifest.digest}"
    assert image.text["Seed"] == "11"
    assert image.text["Disclaimer"] == "Synthetic image, research use only"
    assert image.text["DigitalSourceType"] == TRAINED_ALGORITHMIC_MEDIA
    assert TRAINED_ALGORITHMIC_MEDIA in image.text["XML:com.adobe.xmp"]
    assert response.headers["x-seed"] == "11"
    assert response.headers["x-ai-generated"] == "true"
    assert response.headers["x-model-digest"] == checkpoint.manifest.digest


async def test_pixels_are_the_codes_decoded(gateway, checkpoint):
    response = await gateway.client.post(
        "/generate-image",
        json={"report": REPORT, "seed": 4294967295, "n": 3},
        headers={"Accept": "application/json"},
    )
    answer = response.json()
    assert [image["seed"] for image in answer["images"]] == [4294967295, 0, 1]
    assert answer["seed"] == 4294967295
    assert answer["ai_generated"] is True
    assert answer["timings_ms"].keys() == {"prompt", "generate", "draw", "total"}
    codes = [image["codes"] for image in answer["images"]]
    assert answer["usage"]["completion_tokens"] == sum(map(len, codes))
    expected = ImageTokenizer(checkpoint.load_vqgan()).decode(torch.tensor(codes))
    for image, pixels in zip(answer["images"], expected, strict=True):
        drawn = np.asarray(opened(base64.b64decode(image["png_base64"])), np.int16)
        # One batch of three here, maybe others there: a rounding step at most.
        assert np.abs(drawn - to_grey8(pixels)).max() <= 1


async def test_text_body_and_query(gateway):
    by_text = await gateway.client.post(
        "/generate-image?seed=3&temperature=0.5",
        content=REPORT,
        headers={"Content-Type": "text/plain; charset=UTF-8"},
    )
    by_json = await gateway.client.post(
        "/generate-image", json={"report": REPORT, "seed": 3, "temperature": 0.5}
    )
    assert by_text.status_code == by_json.status_code == 200
    assert by_text.content == by_json.content


async def test_a_png_holds_one_image(gateway):
    several = {"report": REPORT, "n": 2}
    anything = await gateway.client.post("/generate-image", json=several)
    assert len(anything.json()["images"]) == 2
    only_png = await gateway.client.post(
        "/generate-image", json=several, headers={"Accept": "image/png"}
    )
    assert only_png.status_code == 406


@pytest.mark.parametrize("path", ["/generate-image", "/reconstruct"])
async def test_not_acceptable(gateway, path):
    response = await gateway.client.post(path, headers={"Accept": "text/html"})
    assert response.status_code == 406
    assert response.headers["content-type"] == "application/problem+json"


async def test_seeds_matter(gateway):
    async def draw(**options):
        response = await gateway.client.post(
            "/generate-image",
            json={"report": REPORT, **options},
            headers={"Accept": "application/json"},
        )
        return response.json()["images"][0]

    first, again, other = await draw(seed=1), await draw(seed=1), await draw(seed=2)
    assert first == again
    assert first["codes"] != other["codes"]
    assert (await draw())["seed"] != (await draw())["seed"]


@pytest.mark.parametrize("data", [png(3), dicom(3)], ids=["png", "dicom"])
async def test_reconstruction(gateway, data, checkpoint):
    files = {"file": ("x", data)}
    as_png = await gateway.client.post("/reconstruct", files=files)
    as_json = await gateway.client.post(
        "/reconstruct", files=files, headers={"Accept": "application/json"}
    )
    answer = as_json.json()
    image = opened(as_png.content)
    assert image.size == (64, 64)
    assert image.text["AI-generated"] == "yes"
    assert "Seed" not in image.text
    assert base64.b64decode(answer["png_base64"]) == as_png.content
    assert len(answer["codes"]) == checkpoint.manifest.vocabulary.image_length
    assert float(as_png.headers["x-psnr-db"]) == pytest.approx(answer["psnr_db"], abs=1e-3)
    assert float(as_png.headers["x-ms-ssim"]) == pytest.approx(answer["ms_ssim"], abs=1e-5)
    assert answer["preprocessing"] == as_png.headers["x-preprocessing"] == "display/squash/64"


async def test_reconstruction_has_no_options(gateway):
    response = await gateway.client.post("/reconstruct?seed=1", content=png())
    assert response.status_code == 422


@pytest.mark.parametrize("side", [64, 160, 256])
def test_quality_of_the_same_and_of_noise(side):
    picture = torch.rand(1, side, side) * 2 - 1
    assert compare(picture, picture) == pytest.approx((100.0, 1.0), abs=1e-4)
    near = compare(picture, (picture + 0.02 * torch.randn_like(picture)).clamp(-1, 1))
    far = compare(picture, torch.rand(1, side, side) * 2 - 1)
    assert near.psnr_db > 35 > 12 > far.psnr_db
    assert near.ms_ssim > 0.95 > far.ms_ssim


def test_psnr_by_hand():
    black, grey = torch.full((1, 64, 64), -1.0), torch.full((1, 64, 64), -0.8)
    assert compare(black, grey).psnr_db == pytest.approx(20.0, abs=0.01)  # error 0.2 of range 2
