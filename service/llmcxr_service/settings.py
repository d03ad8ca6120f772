"""All that can be set, from `LLMCXR_` environment variables. Nothing else reads those."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import AnyHttpUrl, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "LLMCXR_"
# PS3.5, 6.2: no backslash and no control characters; we also want no comma and no space at ends.
_AE = r"[!-+\--\[\]-~]([ -+\--\[\]-~]{0,14}[!-+\--\[\]-~])?"
# Only signatures by a private key: with HMAC, who can check a token can also make one.
_SIGNATURE = r"((RS|PS)(256|384|512)|ES(256|384|512)|EdDSA)"
_AE_TITLE = rf"^{_AE}$"


class SettingsError(Exception):
    """The configuration cannot be used. The message names variables, never their values."""


class Settings(BaseSettings):
    """The service's configuration; built at the entry point and passed down.

    Attributes:
        host: address to listen on.
        port: port to listen on.
        open: answer everybody, without credentials; only on a loopback address.
        open_to_network: with `open`, also on other addresses.
        keys: file of API keys' hashes; `llmcxr keys` keeps it.
        key_file: file with the API key that our own client at a terminal sends.
        oidc_issuer: whose JSON web tokens are accepted; where absent, nobody's.
        oidc_audience: what the tokens must be meant for.
        oidc_jwks_url: where the issuer's public keys are; https, or http on loopback.
        oidc_algorithms: accepted signatures, separated by commas.
        oidc_scope_claim: claim that holds scopes.
        oidc_leeway_seconds: by how much clocks may differ.
        oidc_ca_file: certificates to trust at the issuer's; where absent, the public ones.
        oidc_cache_seconds: age at which the issuer's keys are fetched again.
        oidc_stale_seconds: age up to which they are used while they cannot be fetched.
        tls_certificate: certificate chain of the service; where absent, no TLS.
        tls_key: its key.
        tls_client_ca: certificates that issue callers' certificates.
        tls_clients: file of callers that are known by certificate.
        rate_limit: most requests of one caller, such as `600/minute`; `off`: no limit.
        rate_limit_store: URL of a Redis that counts for all replicas; where absent, each counts.
        checkpoint: checkpoint directory.
        verify_digests: whether every file's SHA-256 is checked at start.
        vllm_url: vLLM servers to use, separated by commas; where absent, one is started on
            loopback.
        vllm_api_key: bearer key of those servers.
        vllm_connect_timeout_seconds: one that accepts no connection for so long is not there.
        vllm_max_connections: open at once to each of them; more calls wait.
        device: where the VQ-GAN runs: `auto`, `cpu`, `cuda`, `cuda:1` ...
        vqgan_decode_dtype: of the products that draw pixels; `auto` is bfloat16 on a processor that
            has such products, else float32. Codes are always found in float32.
        vqgan_threads: CPU threads of the VQ-GAN; 0 leaves PyTorch's choice.
        micro_batch_size: most images that the VQ-GAN takes at once; 0 leaves the choice: 8 on a
            GPU; on a CPU, whose caches a batch outgrows, 1 in float32, 4 in bfloat16.
        micro_batch_wait_ms: how long an image waits for company, milliseconds.
        decode_workers: files decoded at once, each in a process; 0 leaves the choice.
        decode_timeout_seconds: a file that takes longer is refused, and its process ended.
        decode_memory_mib: address space of one such process, MiB.
        accept_secondary_capture: read DICOM objects whose modality is SC, OT or missing.
        refuse_laterals: refuse a lateral by its header; otherwise the answer carries a warning.
        pixel_gate: what is done about pictures that are no chest radiograph by their pixels:
            `refuse`, `warn`, or `off`.
        max_body_bytes: largest request body.
        max_report_characters: longest report, question, instruction or input text.
        max_pending: requests in work at once; more are refused with Retry-After.
        request_timeout_seconds: deadline of one call to the language model, and what admission
            counts with for a request that names no `Request-Timeout`.
        drain_notice_seconds: from SIGTERM, which makes it not ready, to the end of listening.
        drain_seconds: how long requests in work may go on after that; then they are cancelled.
        vllm_dtype: weights' type in a vLLM that is started here.
        vllm_eager: start it without compilation: sooner ready, slower afterwards.
        vllm_kv_cache_gib: its key-value cache, GiB; absent on a CPU: room for all sequences.
        vllm_max_num_seqs: sequences that it works on at once.
        vllm_start_timeout_seconds: a start that takes longer has failed.
        destinations: file of destinations; where absent, nothing is delivered.
        spool: directory of what is received and to be sent; replicas share it.
        deliveries_database: URL of a PostgreSQL database for the queue; where absent, an SQLite
            file in the spool, for one replica.
        replica: name of this one among those that share a queue; the same after a restart.
        jobs: whether batches are taken (`POST /jobs`); their payloads are kept in the spool.
        jobs_concurrency: items of jobs worked on at once.
        jobs_max_items: most items of one job.
        jobs_max_waiting: most items of all jobs that are not done; more are refused.
        jobs_max_body_bytes: largest body of a job.
        jobs_retention_hours: from a job's end to the removal of its results.
        webhooks: file of webhooks that jobs may name.
        idempotency_hours: how long answers to requests with an Idempotency-Key are kept in the
            spool; 0 ignores the header.
        audit: directory of the audit log; where absent, there is none.
        otlp_endpoint: URL of an OpenTelemetry collector (OTLP over HTTP) for traces; where
            absent, none are made.
        dicom_rules: file of rules for received instances; where absent, nothing is received.
        dicom_max_store_bytes: largest body of a STOW-RS request; one instance in it may have
            `max_body_bytes`.
        dicom_sources: file of archives that `/generate-report` may fetch instances from.
        dicom_port: port of a DIMSE receiver (C-STORE, C-ECHO) inside `serve`; where absent,
            there is none.
        dicom_host: address that DIMSE receivers listen on.
        dicom_ae_title: application entity title of DIMSE receivers; senders have to call it.
        dicom_calling_ae_titles: who may send, separated by commas; `*` is everybody.
        dicom_networks: addresses that may connect, in CIDR notation, separated by commas;
            where absent, all.
        dicom_tls_certificate: certificate chain of DIMSE receivers; where absent, no TLS.
        dicom_tls_key: its key.
        dicom_tls_client_ca: certificates that issue senders' certificates, which are then
            required.
        dicom_max_pdu_bytes: longest protocol data unit that senders may send.
        dicom_max_associations: open at once; more are rejected.
        dicom_timeout_seconds: silence after which an association is aborted.
        secrets: directory of files that are named like variables, such as
            `llmcxr_vllm_api_key`, and hold their values; a variable goes before its file.
        log_level: of the service's own log.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    open: bool = False
    open_to_network: bool = False
    keys: Path = Path("keys.json")
    key_file: Path | None = None
    oidc_issuer: str | None = Field(default=None, min_length=1)
    oidc_audience: str | None = Field(default=None, min_length=1)
    oidc_jwks_url: str | None = None
    oidc_algorithms: str = Field(
        default="RS256,ES256",
        pattern=rf"^{_SIGNATURE}(,{_SIGNATURE})*$",
    )
    oidc_scope_claim: str = Field(default="scope", min_length=1)
    oidc_leeway_seconds: float = Field(default=30.0, ge=0, le=300)
    oidc_ca_file: Path | None = None
    oidc_cache_seconds: float = Field(default=300.0, ge=1, le=86400)
    oidc_stale_seconds: float = Field(default=3600.0, ge=1, le=86400)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    tls_clients: Path | None = None
    rate_limit: str = Field(
        default="600/minute", pattern=r"^(off|[1-9]\d{0,8}/(second|minute|hour|day))$"
    )
    rate_limit_store: SecretStr | None = None
    checkpoint: Path = Path("checkpoints/demo")
    verify_digests: bool = True
    vllm_url: str | None = None
    vllm_api_key: SecretStr | None = None
    vllm_connect_timeout_seconds: float = Field(default=2.0, gt=0, le=60)
    vllm_max_connections: int = Field(default=512, ge=1)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    vqgan_decode_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    vqgan_threads: int = Field(default=0, ge=0, le=1024)
    micro_batch_size: int = Field(default=0, ge=0, le=256)
    micro_batch_wait_ms: float = Field(default=5.0, ge=0.0, le=1000.0)
    decode_workers: int = Field(default=0, ge=0, le=256)
    decode_timeout_seconds: float = Field(default=30.0, gt=0, le=600)
    decode_memory_mib: int = Field(default=2048, ge=512)
    accept_secondary_capture: bool = False
    refuse_laterals: bool = False
    pixel_gate: Literal["refuse", "warn", "off"] = "refuse"
    max_body_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    max_report_characters: int = Field(default=8000, ge=1)
    max_pending: int = Field(default=64, ge=1)
    request_timeout_seconds: float = Field(default=300.0, gt=0)
    drain_notice_seconds: float = Field(default=1.0, ge=0, le=300)
    drain_seconds: int = Field(default=20, ge=1, le=3600)
    vllm_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    vllm_eager: bool = False
    vllm_kv_cache_gib: float | None = Field(default=None, gt=0)
    vllm_max_num_seqs: int = Field(default=32, ge=1)
    vllm_start_timeout_seconds: float = Field(default=900.0, gt=0)
    destinations: Path | None = None
    spool: Path = Path("spool")
    deliveries_database: SecretStr | None = None
    replica: str = Field(default="local", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    jobs: bool = False
    jobs_concurrency: int = Field(default=2, ge=1, le=256)
    jobs_max_items: int = Field(default=100, ge=1, le=1000)
    jobs_max_waiting: int = Field(default=1000, ge=1)
    jobs_max_body_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)
    jobs_retention_hours: float = Field(default=24.0, gt=0, le=24 * 365)
    webhooks: Path | None = None
    idempotency_hours: float = Field(default=24.0, ge=0, le=24 * 30)
    audit: Path | None = None
    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
    dicom_rules: Path | None = None
    dicom_max_store_bytes: int = Field(default=512 * 1024 * 1024, ge=1024)
    dicom_sources: Path | None = None
    dicom_port: int | None = Field(default=None, ge=0, le=65535)
    dicom_host: str = "127.0.0.1"
    dicom_ae_title: str = Field(default="LLMCXR", pattern=_AE_TITLE)
    dicom_calling_ae_titles: str | None = Field(
        default=None, pattern=rf"^(\*|{_AE}(\s*,\s*{_AE})*)$"
    )
    dicom_networks: str | None = None
    dicom_tls_certificate: Path | None = None
    dicom_tls_key: Path | None = None
    dicom_tls_client_ca: Path | None = None
    dicom_max_pdu_bytes: int = Field(default=128 * 1024, ge=4096, le=1024 * 1024)
    dicom_max_associations: int = Field(default=8, ge=1, le=256)
    dicom_timeout_seconds: float = Field(default=30.0, gt=0, le=600)
    secrets: Path | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("vllm_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        urls = [str(AnyHttpUrl(url.strip())).rstrip("/") for url in value.split(",")]
        if len(set(urls)) < len(urls):
            raise ValueError("a server is named twice")
        return ",".join(urls)

    @property
    def vllm_urls(self) -> tuple[str, ...]:
        """Base URLs of the vLLM servers that are named; none where one is started here."""
        return tuple(self.vllm_url.split(",")) if self.vllm_url else ()


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment; a misspelt `LLMCXR_` variable is an error, not silence.

    Args:
        environment: whose names are checked; the process's own where absent.

    Raises:
        SettingsError: an unknown variable, or a value of the wrong kind.
    """
    unknown = unknown_variables(os.environ if environment is None else environment)
    if unknown:
        raise SettingsError(f"Unknown environment variables: {', '.join(unknown)}.")
    try:
        settings = Settings()
        return settings if settings.secrets is None else _with_secrets(settings.secrets)
    except ValidationError as error:
        # Its own text quotes the values, and one of them is a key.
        wrong = sorted({f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()})
        raise SettingsError("Wrong settings. " + "; ".join(wrong)) from None


def _with_secrets(directory: Path) -> Settings:
    """Settings from the environment and, where it does not say, from files.

    Raises:
        SettingsError: the directory cannot be read, or a file in it has a misspelt name.
        ValidationError: a value is of the wrong kind.
    """
    try:
        names = [file.name for file in directory.iterdir()]
        if unknown := unknown_variables(dict.fromkeys(names, "")):
            raise SettingsError(f"LLMCXR_SECRETS has unknown files: {', '.join(unknown)}.")
        return Settings(_secrets_dir=directory)
    except OSError:
        raise SettingsError(
            "LLMCXR_SECRETS: this directory or a file in it is unreadable."
        ) from None


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Names that begin with the prefix and mean nothing; `extra="forbid"` does not see these."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    return sorted(
        name
        for name in environment
        if name.upper().startswith(PREFIX) and name.upper() not in known
    )
