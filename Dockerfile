# The image of CSRN Serve: docker build -t csrn-serve .   docs/deployment.md explains its arguments and secrets.
#
# Stages: base (Debian's Python), tools (pip), dependencies (packages from the lock), application (this repository).
# The image has one layer for each of the last two on top of base, so that a release transfers only megabytes.

FROM debian:bookworm-slim AS base
# No versions are pinned, so that each build gets the security updates of Debian stable.
# hadolint ignore=DL3008
RUN --mount=type=secret,id=apt_conf,target=/etc/apt/apt.conf.d/90build \
    --mount=type=secret,id=ca,target=/run/secrets/ca \
    apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends \
        ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log \
    && useradd --no-log-init --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin csrn \
    && install --directory --owner csrn --group csrn /data /runs


FROM base AS tools
# hadolint ignore=DL3008
RUN --mount=type=secret,id=apt_conf,target=/etc/apt/apt.conf.d/90build \
    --mount=type=secret,id=ca,target=/run/secrets/ca \
    apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/csrn
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1 PIP_PYTHON=/opt/csrn/bin/python \
    PIP_CACHE_DIR=/var/cache/pip
WORKDIR /build
COPY requirements.lock ./


FROM tools AS dependencies
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
COPY pyproject.toml deploy/image/unneeded.py deploy/install-locked ./
# By default the lock's CUDA build of PyTorch is installed. With the address of an index of CPU builds, the same versions
# of torch and torchvision come from there, and the CUDA libraries are left out.
ARG TORCH_INDEX=""
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/run/secrets/ca \
    --mount=type=cache,target=/var/cache/pip \
    ./install-locked "${TORCH_INDEX}" /opt/pip/bin/pip; \
    /opt/csrn/bin/python unneeded.py pyproject.toml tracing | xargs /opt/pip/bin/pip uninstall --yes


FROM tools AS application
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/run/secrets/ca \
    awk '/^[a-z]/ { keep = /^setuptools==/ } keep' requirements.lock > setuptools.lock; \
    /opt/pip/bin/pip install --no-cache-dir --no-deps --require-hashes -r setuptools.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY model model
COPY weights weights
RUN /opt/pip/bin/pip install --no-index --no-deps --no-build-isolation --prefix /application .


FROM base
ARG VERSION="unknown"
ARG REVISION="unknown"
LABEL org.opencontainers.image.title="CSRN Serve" \
    org.opencontainers.image.description="Few-shot facial expression classification as a service" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=dependencies /opt/csrn /opt/csrn
COPY --from=application /application /opt/csrn
# matplotlib, which mediapipe imports, needs a folder it can write to. Everything else is written to /data.
ENV PATH=/opt/csrn/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    CSRN_STORE=sqlite:////data/sessions.sqlite3 \
    MPLCONFIGDIR=/tmp/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
VOLUME /data
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-ISc", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
ENTRYPOINT ["tini", "--", "csrn"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
