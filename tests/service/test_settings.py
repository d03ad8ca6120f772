"""Settings from the environment, by starting a process with that environment."""

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from llmcxr_service.settings import Settings, unknown_variables

SCRIPT = """
from llmcxr_service.settings import SettingsError, load_settings
try:
    print(load_settings().port)
except SettingsError as error:
    print(error)
"""


def load(**variables: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LLMCXR_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=clean | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_variable_sets_a_field():
    assert load(LLMCXR_PORT="9000") == "9000"


def test_a_misspelt_variable_is_named():
    assert load(LLMCXR_PROT="9000") == "Unknown environment variables: LLMCXR_PROT."


def test_a_wrong_value_is_not_quoted():
    output = load(LLMCXR_PORT="my-secret")
    assert "LLMCXR_PORT" in output
    assert "my-secret" not in output


def test_names_are_compared_without_case():
    assert unknown_variables({"llmcxr_port": "1", "PATH": "", "LLMCXR_": ""}) == ["LLMCXR_"]


def test_settings_are_frozen_and_closed():
    with pytest.raises(ValidationError):
        Settings(unknown=1)
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_a_key_is_not_shown():
    assert "s3cret" not in repr(Settings(vllm_api_key="s3cret"))


@pytest.mark.parametrize("url", ["ftp://host", "no url", "//host"])
def test_vllm_url_must_be_http(url):
    with pytest.raises(ValidationError):
        Settings(vllm_url=url)


def test_vllm_url_loses_its_slash():
    assert Settings(vllm_url="http://host:8000/").vllm_url == "http://host:8000"


def test_a_file_sets_a_field_and_a_variable_goes_before_it(tmp_path):
    (tmp_path / "llmcxr_port").write_text("9001\n")
    (tmp_path / "somebody_elses").write_text("x")
    assert load(LLMCXR_SECRETS=str(tmp_path)) == "9001"
    assert load(LLMCXR_SECRETS=str(tmp_path), LLMCXR_PORT="9002") == "9002"


def test_a_misspelt_file_is_named(tmp_path):
    (tmp_path / "llmcxr_vlm_api_key").write_text("s3cret")
    output = load(LLMCXR_SECRETS=str(tmp_path))
    assert "llmcxr_vlm_api_key" in output
    assert "s3cret" not in output


def test_a_wrong_value_in_a_file_is_not_quoted(tmp_path):
    (tmp_path / "llmcxr_port").write_text("s3cret")
    output = load(LLMCXR_SECRETS=str(tmp_path))
    assert "LLMCXR_PORT" in output
    assert "s3cret" not in output


def test_a_directory_of_secrets_that_is_not_there_is_said(tmp_path):
    assert "LLMCXR_SECRETS" in load(LLMCXR_SECRETS=str(tmp_path / "none"))
