"""The short form of scripts/reliability.py: a few cases, faults, and seconds of load.

Its other sections are tests of their own: access in tests/service/access/test_matrix.py, kills in
tests/service/jobs/test_kill.py, aborts in tests/e2e, where a real vLLM runs.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = (
    "refused,reset-before-answer,closed-in-body,hanging,late,no-http,status-500,status-429,"
    "bad-json,too-few-tokens,out-of-range-token,client-gone,slow-client,deadline,one-of-two-gone"
)


def run(tmp_path, *arguments):
    output = tmp_path / "reliability.json"
    command = [sys.executable, "scripts/reliability.py", *arguments, "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert output.exists(), done.stderr[-3000:]
    return json.loads(output.read_text())


def test_faults(tmp_path):
    found = run(tmp_path, "faults", "--repeats", "6", "--kinds", KINDS)["faults"]
    assert found["kinds"] == len(KINDS.split(","))
    assert (found["wrong"], found["mixed_up"]) == (0, 0), found["by_kind"]
    assert found["slowest_recovery_seconds"] <= 5.0


@pytest.mark.parametrize(
    "kinds",
    [
        "stream-broken-off,stream-out-of-range-token,stream-short-image,slow-reader,slow-sender",
        "decode-worker-killed,database-locked",
        "vllm-killed,sigterm-too-late",
    ],
)
def test_faults_of_streams_stores_and_processes(tmp_path, kinds):
    found = run(tmp_path, "faults", "--repeats", "6", "--kinds", kinds)["faults"]
    assert found["kinds"] == len(kinds.split(","))
    assert (found["wrong"], found["mixed_up"]) == (0, 0), found["by_kind"]


def test_load(tmp_path):
    options = ("--rate", "5", "--seconds", "3", "--overload-seconds", "3")
    found = run(tmp_path, "load", *options)["load"]
    assert found["rated_errors"] == 0
    assert found["rated_answered"] > 5
    assert found["overload_wrong"] == 0


def test_contract(tmp_path):
    options = ("--phases", "fuzzing", "--examples", "8")
    found = run(tmp_path, "contract", *options)["contract"]
    assert found["cases"] >= 200
    for gateway in ("open", "guarded"):
        assert found[gateway]["operations"] == operations()
        assert found[gateway]["errors_of_the_experiment"] == []
        assert found[gateway]["failures"] == {}
    assert (found["server_errors"], found["undocumented"], found["let_in"]) == (0, 0, 0)


def operations():
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    methods = {"get", "post", "put", "delete"}
    return sum(len(methods & operations.keys()) for operations in document["paths"].values())


@pytest.fixture
def script(monkeypatch):
    """Load one of the scripts' modules that need nothing else of theirs."""

    def load(name):
        path = ROOT / "scripts" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # data classes look for their module there
        spec.loader.exec_module(module)
        return module

    return load


def test_the_document_has_the_table_of_the_figures(script):
    table = script("reliability_table")
    figures = json.loads((ROOT / "docs" / "reliability.json").read_text(encoding="utf-8"))
    document = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert table.in_markdown(figures) in document, "run: python scripts/reliability.py table"


def test_what_was_not_measured_or_is_out_of_bounds_does_not_hold(script):
    table = script("reliability_table")
    assert {row[-1] for row in table.rows({})} == {"no"}
    kept = {"aborts": {"clients": 1000, "slowest_free_seconds": 2.0}}
    late = {"aborts": {"clients": 1000, "slowest_free_seconds": 2.1}}
    assert [row[2:] for row in table.rows(kept) if row[0] == "aborts"] == [
        ("1,000", ">= 1,000", "yes"),
        ("2 s", "<= 2 s", "yes"),
    ]
    assert [row[-1] for row in table.rows(late) if row[0] == "aborts"] == ["yes", "no"]


def test_runs_add_up_and_no_seed_is_used_twice(script, tmp_path):
    runs = script("reliability_runs")
    output = tmp_path / "figures.json"
    assert runs.earlier_runs(output, "kills") == []
    output.write_text(json.dumps({"kills": {"runs": [{"seed": 1, "lost": 1}, {"seed": 7}]}}))
    earlier = runs.earlier_runs(output, "kills")
    assert runs.choose_seed(earlier, None) == 8
    assert runs.choose_seed(earlier, 2) == 2
    with pytest.raises(runs.UsedSeed):
        runs.choose_seed(earlier, 7)
    assert runs.added_up([*earlier, {"seed": 8, "lost": 2}], ["lost"]) == {"lost": 3}
