# syntax=docker/dockerfile:1
#
#   docker build -t MY-REGISTRY/pad-pipeline:1 .
#
# Pin the base by digest for builds that must come out the same next year:
#   --build-arg BASE=nvidia/cuda:13.0.3-base-ubuntu24.04@sha256:…
# The base brings CUDA's runtime library and the marks that the container toolkit looks for; cuBLAS,
# cuDNN and NCCL come with PyTorch's wheel. No weights are in the image: they are mounted.
ARG BASE=nvidia/cuda:13.0.3-base-ubuntu24.04

# hadolint ignore=DL3006
FROM ${BASE} AS build
# Ubuntu removes versions that it has replaced, so a pinned one would not build for long.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3.12-venv \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3.12 -m venv /opt/pad-pipeline
ENV PATH=/opt/pad-pipeline/bin:$PATH
COPY deploy/requirements.lock /build/
RUN pip install --require-hashes --requirement /build/requirements.lock
COPY pyproject.toml README.md LICENSE /build/
COPY pad_pipeline /build/pad_pipeline
RUN pip install --no-deps --no-build-isolation /build && pip check

# hadolint ignore=DL3006
FROM ${BASE}
# gcc and Python's headers are for --compile: Triton builds its launchers with them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev python3.12 python3.12-dev tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --create-home pad \
    && install --directory --owner pad --group pad /models
COPY --from=build /opt/pad-pipeline /opt/pad-pipeline
ENV PATH=/opt/pad-pipeline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0 \
    PAD_MODELS=/models/pad \
    HF_HOME=/models/hf
USER 10001:10001
WORKDIR /home/pad
# KubeRay puts `/bin/bash -c` in its place.
ENTRYPOINT ["tini", "--"]
CMD ["pad-pipeline", "--help"]
