# The gateway, and with `llmcxr vllm` vLLM for CPUs.
#   docker build -t llmcxr .
#   docker build -t llmcxr:gateway --build-arg PARTS=gateway .       without vLLM, for a gateway
#   docker build -t llmcxr:cuda --build-arg DEVICE=cuda .            the VQ-GAN on a GPU
# A digest in place of the version: --build-arg BASE=python@sha256:...
ARG BASE=docker.io/library/python:3.11.15-slim-bookworm

FROM ${BASE} AS build
ARG DEVICE=cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
# Installed where it will run: an environment holds absolute paths.
WORKDIR /app
# Packages first: they change less often than our own code.
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY scripts/setup.py scripts/
RUN --mount=type=cache,target=/root/.cache/pip \
    python scripts/setup.py --device "$DEVICE" --packages
COPY models models
COPY training training
COPY service service
RUN --mount=type=cache,target=/root/.cache/pip \
    python scripts/setup.py --device "$DEVICE"
# What is not needed to serve goes: training, tests, linters, build tools, pip itself. What is left
# is written down as CycloneDX. Our code is compiled here, since nothing can be written later: each
# file is decoded by a fresh process, which would compile it each time.
ARG PARTS=gateway,vllm
COPY scripts/image_environment.py scripts/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/sbom \
    && /opt/sbom/bin/pip install -q cyclonedx-bom==7.5.0 \
    && .venv/bin/python scripts/image_environment.py --parts "$PARTS" \
    && /opt/sbom/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
        --mc-type application --output-file sbom.cdx.json .venv/bin/python \
    && .venv/bin/python -m compileall -q --invalidation-mode unchecked-hash \
        models/llmcxr_models service

FROM ${BASE}
ARG DEVICE=cpu
ARG PARTS=gateway,vllm
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="llmcxr" \
      org.opencontainers.image.description="Chest radiograph to report and back. Research use only." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      llmcxr.device="${DEVICE}" \
      llmcxr.parts="${PARTS}" \
      llmcxr.sbom="/usr/share/sbom/llmcxr.cdx.json" \
      llmcxr.sbom.format="CycloneDX JSON; Debian's packages in /usr/share/sbom/debian.tsv"
# tcmalloc: what vLLM recommends on CPUs, which also needs libnuma. tini: reaps the processes that
# vLLM leaves when it is killed. No compiler: vLLM then runs uncompiled on a CPU.
# Debian's security updates are wanted, so versions are not pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libnuma1 libtcmalloc-minimal4 tini \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log \
    && install -d /usr/share/sbom \
    && dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\n' > /usr/share/sbom/debian.tsv \
    && useradd --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin llmcxr \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/llmcxr \
    && install -d -o 10001 -m 0700 /var/lib/llmcxr-access
WORKDIR /app
COPY --from=build /app/sbom.cdx.json /usr/share/sbom/llmcxr.cdx.json
COPY --from=build /app/.venv .venv
COPY --from=build /app/checkpoints checkpoints
COPY pyproject.toml README.md LICENSE ./
COPY --from=build /app/models/llmcxr_models models/llmcxr_models
COPY --from=build /app/service service
COPY samples samples
# The root file system can be read-only: everything that is written goes to /tmp, to the spool, and
# to the directory of keys.
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HF_HUB_OFFLINE=1 \
    VLLM_NO_USAGE_STATS=1 \
    LLMCXR_HOST=0.0.0.0 \
    LLMCXR_SPOOL=/var/lib/llmcxr \
    LLMCXR_CHECKPOINT=/app/checkpoints/demo
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health/live', timeout=4)"]
ENTRYPOINT ["tini", "--"]
CMD ["llmcxr", "serve"]
