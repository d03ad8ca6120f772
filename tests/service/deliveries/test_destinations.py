"""The file of destinations is checked at start; its secrets are never told."""

import pytest

from llmcxr_service.deliveries.destinations import load_destinations, takes
from llmcxr_service.deliveries.outcome import DestinationsError
from llmcxr_service.receiving import Output

GOOD = """
[queue]
drafts = 3

[[destinations]]
name = "pacs"
kind = "stow"
url = "https://pacs.example.org/dicom-web"
credentials.token_file = "{directory}/token"

[[destinations]]
name = "old-pacs"
kind = "c-store"
host = "192.0.2.7"
port = 11112
called_ae = "ARCHIVE"

[[destinations]]
name = "fhir"
kind = "fhir"
url = "https://fhir.example.org/r4"
credentials = {{ username = "llmcxr", password_file = "{directory}/password" }}

[[destinations]]
name = "ris"
kind = "mllp"
host = "192.0.2.8"
port = 2575
tls = {{ server_name = "ris.example.org" }}
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "token").write_text("s3cret-token\n")
    (tmp_path / "password").write_text("s3cret-password\n")
    path = tmp_path / "destinations.toml"
    path.write_text(GOOD.format(directory=tmp_path))
    return path


def test_all_kinds(file):
    destinations = load_destinations(file)
    assert destinations.queue.drafts == 3
    by_name = destinations.by_name
    assert sorted(by_name) == ["fhir", "old-pacs", "pacs", "ris"]
    assert takes(by_name["pacs"], Output.ENHANCED_SR)
    assert takes(by_name["old-pacs"], Output.SECONDARY_CAPTURE)
    assert not takes(by_name["pacs"], Output.FHIR)
    assert takes(by_name["fhir"], Output.FHIR)
    assert takes(by_name["ris"], Output.HL7)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "pacs"', 'name = "Pacs"'),
        ('name = "pacs"', 'name = "draft"'),
        ('name = "pacs"', 'name = "fhir"'),
        ('kind = "stow"', 'kind = "ftp"'),
        ("https://pacs", "file://pacs"),
        ("port = 11112", "port = 0"),
        ('called_ae = "ARCHIVE"', 'called_ae = "AN ARCHIVE WITH A LONG NAME"'),
        ('called_ae = "ARCHIVE"', ""),
        ("/token", "/no-such-token"),
        ('username = "llmcxr", ', ""),
        ("server_name", "serve_name"),
        ("server_name", "ca_file"),
        ("drafts = 3", "drafts = 0"),
        ("[queue]", "[queue"),
    ],
)
def test_mistakes_are_found_at_start(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(DestinationsError) as caught:
        load_destinations(file)
    assert "s3cret" not in str(caught.value)


def test_an_empty_secret_is_a_mistake(file, tmp_path):
    (tmp_path / "token").write_text("\n")
    with pytest.raises(DestinationsError, match="pacs"):
        load_destinations(file)


def test_a_missing_file(tmp_path):
    with pytest.raises(DestinationsError):
        load_destinations(tmp_path / "none.toml")
