"""docs/openapi.json is what the code says."""

import json
import re
from pathlib import Path

from llmcxr_service import openapi

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_committed_document_is_current():
    again = "python -m llmcxr_service.openapi docs/openapi.json"
    assert COMMITTED.read_text(encoding="utf-8") == openapi.document(), f"run: {again}"


def test_every_route_that_can_fail_documents_its_problems():
    document = json.loads(openapi.document())
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            errors = {s: r for s, r in operation["responses"].items() if s >= "400"}
            if path.startswith("/dicom-web/"):
                errors.pop("409")  # STOW-RS says in its own form what was not stored
            if method == "post" and not path.startswith("/deliveries/"):  # these take no body
                assert {"406", "413", "415", "422", "500", "503"} <= errors.keys(), path
            for response in errors.values():
                assert list(response["content"]) == ["application/problem+json"], path


def test_every_answer_that_has_a_body_documents_it():
    document = json.loads(openapi.document())
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                empty = status == "204" or path.endswith(("/resend", "/discard"))
                assert response.get("content") or empty, (path, status)


def test_every_event_of_a_stream_is_documented_with_its_data():
    document = json.loads(openapi.document())
    answers = {"/generate-report": "ReportAnswer", "/generate-image": "ImagesDone"}
    for path, last in answers.items():
        content = document["paths"][path]["post"]["responses"]["200"]["content"]
        events = content["text/event-stream"]["schema"]["oneOf"]
        data = {e["properties"]["event"]["const"]: e["properties"]["data"] for e in events}
        assert data["done"]["contentSchema"] == {"$ref": f"#/components/schemas/{last}"}
        for each in data.values():
            schema = each["contentSchema"].get("items", each["contentSchema"])
            assert schema["$ref"].rpartition("/")[2] in document["components"]["schemas"]


def test_patient_text_is_never_a_query_parameter():
    document = json.loads(openapi.document())
    names = {
        parameter["name"]
        for operations in document["paths"].values()
        for operation in operations.values()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "query"
    }
    assert names == {
        "seed",
        "temperature",
        "top_p",
        "max_tokens",
        "n",
        "best_of",
        "guidance",
        "state",
        "limit",
    }


async def test_it_is_served(gateway):
    response = await gateway.client.get("/openapi.json")
    assert response.json() == json.loads(COMMITTED.read_text(encoding="utf-8"))
    assert (await gateway.client.get("/docs")).status_code == 200


async def test_its_page_needs_no_other_host(gateway):
    page = (await gateway.client.get("/docs")).text
    assert "https://" not in page
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(addresses) >= 2
    for address in addresses:
        assert (await gateway.client.get(address)).status_code == 200, address
