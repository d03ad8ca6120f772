# The gateway, and with `llmcxr vllm` vLLM for CPUs. DEVICE=cuda: the gateway's VQ-GAN on a GPU.
#   docker build -t llmcxr .
#   docker build -t llmcxr:cuda --build-arg DEVICE=cuda .

FROM python:3.11-slim-bookworm AS build
ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
# Installed where it will run: an environment holds absolute paths.
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY scripts scripts
COPY models models
COPY training training
COPY service service
RUN python scripts/setup.py --device "$DEVICE" && rm -rf .cache

FROM python:3.11-slim-bookworm
# g++: vLLM compiles the model for the processor. tcmalloc: what vLLM recommends on CPUs.
# tini: reaps the processes that vLLM leaves when it is killed.
# Debian's security updates are wanted, so versions are not pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libtcmalloc-minimal4 tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 llmcxr \
    && install -d -o 10001 -m 0700 /var/lib/llmcxr-access
WORKDIR /app
COPY --from=build /app /app
COPY samples samples
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LLMCXR_HOST=0.0.0.0 \
    LLMCXR_CHECKPOINT=/app/checkpoints/demo
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health/live', timeout=4)"]
ENTRYPOINT ["tini", "--"]
CMD ["llmcxr", "serve"]
