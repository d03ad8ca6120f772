"""POST /generate-report and /answer-question, from real files."""

import pytest
from tests.pictures import dicom, jpeg, png


@pytest.fixture
def words(checkpoint, vllm):
    """Make the model write this text."""
    tokenizer = checkpoint.load_tokenizer()
    (stop,) = checkpoint.manifest.vocabulary.stop_token_ids

    def write(text, *, stopped=True):
        vllm.answer = tokenizer.encode_text(text) + ([stop] if stopped else [])

    return write


def raw(data, media_type="application/octet-stream", **headers):
    return {"content": data, "headers": {"Content-Type": media_type, **headers}}


async def test_report_fields(gateway, checkpoint, words):
    words("Findings: The heart is normal. Impression: No acute abnormality.")
    response = await gateway.client.post(
        "/generate-report", files={"file": ("x.dcm", dicom())}, data={"seed": "42"}
    )
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["findings"] == "The heart is normal."
    assert answer["impression"] == "No acute abnormality."
    assert answer["text"] == "Findings: The heart is normal. Impression: No acute abnormality."
    manifest = checkpoint.manifest
    assert answer["model"] == {"name": "tiny", "version": "0.0.1", "digest": manifest.digest}
    assert answer["seed"] == 42
    body = gateway.vllm.requests[0]
    assert answer["usage"] == {
        "prompt_tokens": len(body["prompt"]),
        "completion_tokens": len(gateway.vllm.answer),
    }
    stages = {"decode", "preprocess", "encode", "prompt", "generate", "total"}
    assert answer["timings_ms"].keys() == stages
    assert answer["preprocessing"] == "display/squash/64"
    assert answer["warnings"] == []
    assert answer["ai_generated"] is True


@pytest.mark.parametrize(
    ("data", "media_type"),
    [(dicom(), "application/dicom"), (png(), "image/png"), (jpeg(), "image/jpeg")],
    ids=["dicom", "png", "jpeg"],
)
async def test_form_and_body_are_the_same(gateway, data, media_type):
    by_body = await gateway.client.post("/generate-report", **raw(data, media_type))
    by_form = await gateway.client.post("/generate-report", files={"file": ("any", data)})
    no_type = await gateway.client.post("/generate-report", content=data)
    assert by_body.status_code == by_form.status_code == no_type.status_code == 200
    assert by_body.json()["text"] == by_form.json()["text"] == no_type.json()["text"]


async def test_text_by_accept(gateway, checkpoint, words):
    words("The lungs are clear. Impression: Normal.")
    response = await gateway.client.post(
        "/generate-report", **raw(png(), Accept="text/plain;q=0.9, image/png")
    )
    assert response.text == "Findings: The lungs are clear. Impression: Normal."
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["x-ai-generated"] == "true"
    assert response.headers["x-model-digest"] == checkpoint.manifest.digest
    assert response.headers["x-seed"].isdigit()
    assert "generate;dur=" in response.headers["server-timing"]


async def test_options_by_form_and_by_query(gateway):
    options = {"seed": "5", "temperature": "0.5", "max_tokens": "9", "top_p": "0.7"}
    form = await gateway.client.post("/generate-report", files={"file": ("a", png())}, data=options)
    query = await gateway.client.post("/generate-report", params=options, **raw(png()))
    assert form.json()["text"] == query.json()["text"]
    for body in gateway.vllm.requests:
        assert (body["seed"], body["temperature"], body["top_p"]) == (5, 0.5, 0.7)
        assert body["max_tokens"] == 9


async def test_indication_changes_the_prompt_and_stays_out_of_urls(gateway):
    plain = await gateway.client.post("/generate-report", files={"file": ("a", png())})
    told = await gateway.client.post(
        "/generate-report", files={"file": ("a", png())}, data={"indication": "Cough."}
    )
    assert plain.status_code == told.status_code == 200
    first, second = gateway.vllm.requests
    assert len(second["prompt"]) > len(first["prompt"])
    refused = await gateway.client.post(
        "/generate-report", params={"indication": "Cough."}, **raw(png())
    )
    assert refused.status_code == 422
    assert "Cough" not in refused.text


async def test_no_seed_draws_one_that_repeats_the_answer(gateway):
    first = await gateway.client.post("/generate-report?temperature=1", **raw(png()))
    seed = first.json()["seed"]
    assert 0 <= seed < 2**32
    again = await gateway.client.post(f"/generate-report?temperature=1&seed={seed}", **raw(png()))
    other = await gateway.client.post("/generate-report?temperature=1", **raw(png()))
    assert again.json()["text"] == first.json()["text"]
    assert other.json()["seed"] != seed


async def test_a_lateral_is_a_warning_for_a_frontal_model(gateway):
    frontal = await gateway.client.post("/generate-report", **raw(dicom()))
    lateral = await gateway.client.post("/generate-report", **raw(dicom(ViewPosition="LL")))
    assert frontal.json()["warnings"] == []
    assert any("lateral" in warning for warning in lateral.json()["warnings"])


async def test_a_cut_answer_says_so(gateway, words):
    words("The lungs are clear and so on", stopped=False)
    response = await gateway.client.post("/generate-report", **raw(png()))
    assert any("cut off" in warning for warning in response.json()["warnings"])


async def test_an_empty_answer_says_so(gateway, words):
    words("")
    response = await gateway.client.post("/generate-report", **raw(png()))
    assert response.json()["text"] == ""
    assert any("nothing" in warning for warning in response.json()["warnings"])


async def test_room_for_the_answer_is_what_the_prompt_leaves(gateway, checkpoint):
    response = await gateway.client.post("/generate-report?max_tokens=1000", **raw(png()))
    (body,) = gateway.vllm.requests
    assert len(body["prompt"]) + body["max_tokens"] == checkpoint.manifest.max_model_len
    assert any("room" in warning for warning in response.json()["warnings"])


async def test_a_question_about_a_radiograph(gateway, words):
    words("No.")
    response = await gateway.client.post(
        "/answer-question",
        files={"file": ("a.png", png())},
        data={"question": "Is there a pneumothorax?", "seed": "1"},
    )
    answer = response.json()
    assert answer["answer"] == "No."
    assert answer["seed"] == 1
    assert answer["ai_generated"] is True


async def test_questions_share_the_images_prefix(gateway, checkpoint):
    for question in ("Is there a pneumothorax?", "Is the heart normal?"):
        await gateway.client.post(
            "/answer-question", files={"file": ("a", png())}, data={"question": question}
        )
    first, second = (body["prompt"] for body in gateway.vllm.requests)
    length = checkpoint.manifest.vocabulary.image_length
    assert first[: length + 3] == second[: length + 3]
    assert first != second


@pytest.mark.parametrize(
    ("files", "data"),
    [
        ({"file": ("a", png())}, {}),
        ({"file": ("a", png())}, {"question": " "}),
        ({"other": ("a", png())}, {"question": "Why?"}),
        ({"file": ("a", png()), "question": ("q", b"Why?")}, {}),
    ],
)
async def test_a_question_needs_both(gateway, files, data):
    response = await gateway.client.post("/answer-question", files=files, data=data)
    assert response.status_code == 422


async def test_a_question_cannot_come_by_body_and_url(gateway):
    response = await gateway.client.post("/answer-question?question=Why", **raw(png()))
    assert response.status_code == 415


async def test_instruct(gateway, words):
    words("A pleural effusion is fluid.")
    response = await gateway.client.post(
        "/instruct", json={"instruction": "Explain.", "input": "pleural effusion"}
    )
    assert response.json()["response"] == "A pleural effusion is fluid."
    plain = await gateway.client.post(
        "/instruct", json={"instruction": "Explain."}, headers={"Accept": "text/plain"}
    )
    assert plain.text == "A pleural effusion is fluid."
