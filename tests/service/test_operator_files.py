"""What is wrong with an operator's file is told alike, whichever file it is."""

from __future__ import annotations

import pytest

from llmcxr_service.access.certificates import load_clients
from llmcxr_service.deliveries.destinations import load_destinations
from llmcxr_service.deliveries.outcome import DestinationsError
from llmcxr_service.errors import AccessError, RulesError, SourcesError, WebhooksError
from llmcxr_service.intake_dicom.rules import load_rules
from llmcxr_service.intake_dicom.sources import load_sources
from llmcxr_service.jobs.webhooks import load_webhooks

FILES = {
    "destinations": (load_destinations, DestinationsError),
    "rules": (load_rules, RulesError),
    "archives": (load_sources, SourcesError),
    "webhooks": (load_webhooks, WebhooksError),
    "callers (LLMCXR_TLS_CLIENTS)": (load_clients, AccessError),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "The file of {} cannot be read."),
        (b"a = '\xff'", "The file of {} is no TOML: it is not UTF-8."),
        (b"a = [", "The file of {} is no TOML. Invalid value (at end of document)."),
        (b"s3cret = 1", "Wrong {}. s3cret: Extra inputs are not permitted."),
    ],
)
def test_mistakes_are_told_alike(tmp_path, what, content, told):
    load, error = FILES[what]
    path = tmp_path / "operator.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error) as caught:
        load(path)
    assert str(caught.value) == told.format(what)


def test_a_mistake_of_the_whole_file_is_told_without_pydantics_words(tmp_path):
    path = tmp_path / "operator.toml"
    path.write_text("[[sources]]\nname = 'a'\nurl = 'http://x'\n" * 2)
    with pytest.raises(SourcesError, match=r"^Wrong archives\. file: names must be distinct\.$"):
        load_sources(path)
