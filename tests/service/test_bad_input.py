"""Everything bad is a clear problem, quotes nothing, and the next good request works."""

import pytest
from tests.fakes import Fault
from tests.pictures import PATIENT, PATIENT_ID, dicom, huge_png, png

CT = "1.2.840.10008.5.1.4.1.1.2"
ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
SECRET = "Jane Roe, born 1 April"

FILES = {
    "empty": (b"", 400, "invalid-radiograph"),
    "text": (f"Report of {SECRET}".encode(), 415, "unsupported-media"),
    "gif": (b"GIF89a" + bytes(100), 415, "unsupported-media"),
    "truncated dicom": (dicom()[:-900], 400, "invalid-radiograph"),
    "dicom header only": (dicom()[:200], 400, "invalid-radiograph"),
    "truncated png": (png()[:-200], 400, "invalid-radiograph"),
    "png signature only": (png()[:8], 400, "invalid-radiograph"),
    "jpeg signature only": (b"\xff\xd8\xff\xe0", 400, "invalid-radiograph"),
    "ct": (dicom(SOPClassUID=CT, Modality="CT"), 422, "unsupported-radiograph"),
    "ultrasound": (dicom(SOPClassUID=ULTRASOUND, Modality="US"), 422, "unsupported-radiograph"),
    "multi-frame": (dicom(NumberOfFrames=2), 422, "unsupported-radiograph"),
    "hand": (dicom(BodyPartExamined="HAND"), 422, "unsupported-radiograph"),
    "huge": (huge_png(), 422, "unsupported-radiograph"),
    "tiny": (png(size=(8, 8)), 422, "unsupported-radiograph"),
}


async def assert_problem(gateway, response, status, slug):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"/problems/{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    for private in (SECRET, PATIENT, PATIENT_ID):
        assert private not in response.text
    good = await gateway.client.post("/generate-image", json={"report": "Clear lungs."})
    assert good.status_code == 200


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("path", ["/generate-report", "/reconstruct"])
async def test_files_by_body(gateway, name, path):
    data, status, slug = FILES[name]
    response = await gateway.client.post(
        path, content=data, headers={"Content-Type": "application/dicom"}
    )
    await assert_problem(gateway, response, status, slug)


@pytest.mark.parametrize("name", FILES)
async def test_files_by_form(gateway, name):
    data, status, slug = FILES[name]
    response = await gateway.client.post("/generate-report", files={"file": ("a.dcm", data)})
    await assert_problem(gateway, response, status, slug)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"report": ""}, "empty"),
        ({"report": " \n "}, "empty"),
        ({"report": "x" * 100_000}, "too-long"),
        ({"report": "pleural effusion " * 400}, "too-long"),  # characters fit, tokens do not
        ({"report": f"{SECRET}\x00"}, "control-characters"),
        ({"report": f"{SECRET}\x1b[31m"}, "control-characters"),
    ],
)
async def test_report_texts(gateway, body, reason):
    response = await gateway.client.post("/generate-image", json=body)
    assert response.json()["reason"] == reason
    await assert_problem(gateway, response, 422, "invalid-text")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"report": "a", SECRET: 1},
        {"report": None},
        {"report": 7},
        {"report": [SECRET]},
        {"report": "a", "seed": -1},
        {"report": "a", "seed": 2**32},
        {"report": "a", "seed": 1.5},
        {"report": "a", "seed": "7"},
        {"report": "a", "seed": True},
        {"report": "a", "temperature": 2.5},
        {"report": "a", "temperature": -0.1},
        {"report": "a", "top_p": 0},
        {"report": "a", "n": 0},
        {"report": "a", "n": 1000},
        [SECRET],
        SECRET,
    ],
)
async def test_json_is_strict(gateway, body):
    response = await gateway.client.post("/generate-image", json=body)
    assert response.json()["errors"]
    await assert_problem(gateway, response, 422, "invalid-request")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b'{"report": "a", "temperature": NaN}',
        b'{"report": "a", "temperature": Infinity}',
        b'{"report": "a", "temperature": 1e999}',
        b'{"report": "a", "seed": NaN}',
        b'{"report": "\xff"}',
        b'{"report": "\\ud800"}',
        b"[" * 100_000,
    ],
)
async def test_json_that_is_none(gateway, body):
    response = await gateway.client.post(
        "/generate-image", content=body, headers={"Content-Type": "application/json"}
    )
    await assert_problem(gateway, response, 422, "invalid-request")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
async def test_a_text_body_of_megabytes(gateway, content_type):
    response = await gateway.client.post(
        "/generate-image", content=b" " * 2_000_000, headers={"Content-Type": content_type}
    )
    await assert_problem(gateway, response, 413, "body-too-large")


@pytest.mark.parametrize(
    ("content_type", "status", "slug"),
    [
        ("text/html", 415, "unsupported-media"),
        ("application/xml", 415, "unsupported-media"),
        ("text/plain; charset=latin-1", 415, "unsupported-media"),
        ("text/plain", 422, "invalid-request"),
    ],
)
async def test_text_bodies(gateway, content_type, status, slug):
    response = await gateway.client.post(
        "/generate-image", content=b"Clear \xff lungs", headers={"Content-Type": content_type}
    )
    await assert_problem(gateway, response, status, slug)


@pytest.mark.parametrize(
    "query",
    [
        "seed=x",
        "seed=-1",
        "seed=4294967296",
        "seed=1&seed=2",
        "temperature=nan",
        "temperature=inf",
        "max_tokens=0",
        "max_tokens=1e9",
        "unknown=1",
        "question=Why",
    ],
)
async def test_query_options(gateway, query):
    response = await gateway.client.post(f"/generate-report?{query}", content=png())
    await assert_problem(gateway, response, 422, "invalid-request")


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", "multipart/form-data"),
        (b"", "multipart/form-data; boundary=x"),
        (b"nonsense", "multipart/form-data; boundary=x"),
        (b"--x\r\nno header\r\n\r\n--x--", "multipart/form-data; boundary=x"),
        (
            b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--",
            "multipart/form-data; boundary=x",
        ),
        (
            b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\na\r\n--x--",
            "multipart/form-data; boundary=x",
        ),
        (b"--x--", "multipart/form-data; boundary=x; charset=nonsense"),
    ],
)
async def test_malformed_forms(gateway, content, content_type):
    response = await gateway.client.post(
        "/generate-report", content=content, headers={"Content-Type": content_type}
    )
    await assert_problem(gateway, response, 422, "invalid-request")


@pytest.mark.parametrize(
    ("files", "data"),
    [
        ([("file", ("a", png())), ("file", ("b", png()))], {}),
        ([("file", ("a", png())), (SECRET, ("b", b"x"))], {}),
        ([("file", ("a", png()))], {SECRET: "1"}),
        ([("file", ("a", png()))], {"seed": "x"}),
        ([("file", ("a", png()))], {"seed": ["1", "2"]}),
        ([("file", ("a", png()))], {f"field{i}": "1" for i in range(50)}),
        ([("file", ("a", png()))], {"indication": "x" * 3_000_000}),
    ],
)
async def test_forms_that_do_not_fit(gateway, files, data):
    response = await gateway.client.post("/generate-report", files=files, data=data)
    await assert_problem(gateway, response, 422, "invalid-request")


@pytest.mark.parametrize("indication", ["x" * 100_000, "\x07"])
async def test_indications(gateway, indication):
    response = await gateway.client.post(
        "/generate-report", files={"file": ("a", png())}, data={"indication": indication}
    )
    await assert_problem(gateway, response, 422, "invalid-text")


@pytest.mark.parametrize("marker", ["### End", "<|im_end|>", "<|image_0001|>", "<|im_start|>"])
async def test_special_tokens_in_text_are_only_text(gateway, checkpoint, marker):
    tokenizer = checkpoint.load_tokenizer()
    plain = await gateway.client.post("/generate-image", json={"report": "Clear."})
    marked = await gateway.client.post("/generate-image", json={"report": f"Clear.{marker}"})
    assert plain.status_code == marked.status_code == 200
    first, second = (body["prompt"] for body in gateway.vllm.requests)
    special = {i for i in range(tokenizer.size) if not tokenizer.decode([i])}
    assert [i for i in first if i in special] == [i for i in second if i in special]
    assert not set(second) & set(checkpoint.manifest.vocabulary.image_token_ids)
    assert marker in tokenizer.decode(second)


@pytest.mark.parametrize(
    ("fault", "status", "slug"),
    [
        (Fault.TOO_FEW, 502, "invalid-image-tokens"),
        (Fault.TOO_MANY, 502, "invalid-image-tokens"),
        (Fault.OUT_OF_RANGE, 502, "invalid-image-tokens"),
        (Fault.NEGATIVE, 502, "invalid-image-tokens"),
        (Fault.SERVER_ERROR, 502, "generator-misbehaved"),
        (Fault.BAD_JSON, 502, "generator-misbehaved"),
        (Fault.REFUSE, 502, "generator-rejected"),
        (Fault.BUSY, 503, "generator-unavailable"),
    ],
)
async def test_vllm_misbehaves_on_an_image(gateway, fault, status, slug):
    # Being busy is tried again, twice.
    gateway.vllm.faults.extend([fault] * (3 if fault is Fault.BUSY else 1))
    response = await gateway.client.post("/generate-image", json={"report": SECRET})
    await assert_problem(gateway, response, status, slug)
    if status == 503:
        assert int(response.headers["retry-after"]) > 0
    invalid = await gateway.metric("llmcxr_image_tokens_invalid_total")
    assert invalid == (slug == "invalid-image-tokens")


@pytest.mark.parametrize(
    "fault", [Fault.TOO_FEW, Fault.TOO_MANY, Fault.OUT_OF_RANGE, Fault.NEGATIVE]
)
async def test_vllm_misbehaves_on_text(gateway, fault):
    gateway.vllm.faults.append(fault)
    response = await gateway.client.post("/generate-report", content=png())
    await assert_problem(gateway, response, 502, "generator-misbehaved")


async def test_image_tokens_in_a_text_are_refused(gateway, checkpoint):
    gateway.vllm.answer = [checkpoint.manifest.vocabulary.image_offset]
    response = await gateway.client.post("/instruct", json={"instruction": "Explain."})
    await assert_problem(gateway, response, 502, "generator-misbehaved")


async def test_one_bad_image_of_several_fails_the_request(gateway):
    gateway.vllm.faults.extend([Fault.HANG, Fault.SERVER_ERROR])
    response = await gateway.client.post("/generate-image", json={"report": "a", "n": 2})
    await assert_problem(gateway, response, 502, "generator-misbehaved")
    assert gateway.vllm.cancelled == 1


async def test_vllm_hangs(start_gateway):
    async with start_gateway(request_timeout_seconds=0.2) as gateway:
        gateway.vllm.faults.append(Fault.HANG)
        response = await gateway.client.post("/generate-image", json={"report": "Clear."})
        await assert_problem(gateway, response, 504, "generator-timeout")
