# The image of CSRN Serve. docker build -t csrn-serve .   Arguments, secrets and reasons: docs/deploy.md.
#
# Stages: base (Debian's Python), dependencies (the lock in /opt/csrn), application (this repository), and the image
# itself, which takes the last two as layers of their own, so that a new release moves megabytes, not gigabytes.

FROM debian:bookworm-slim AS base
# Security updates of Debian stable are wanted: so no versions here.
# hadolint ignore=DL3008
RUN --mount=type=secret,id=apt_conf,target=/etc/apt/apt.conf.d/90build \
    --mount=type=secret,id=ca,target=/run/secrets/ca \
    apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends \
        ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log \
    && useradd --no-log-init --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin csrn \
    && install --directory --owner csrn --group csrn /data /runs


FROM base AS dependencies
# hadolint ignore=DL3008
RUN --mount=type=secret,id=apt_conf,target=/etc/apt/apt.conf.d/90build \
    --mount=type=secret,id=ca,target=/run/secrets/ca \
    apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends python3-venv \
    && python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/csrn
COPY requirements.lock pyproject.toml docs/deploy/image/unneeded.py /build/
WORKDIR /build
# Empty: the CUDA build of PyTorch that the lock names. An index of CPU builds: torch and torchvision of the same
# versions from there, and none of the CUDA libraries.
ARG TORCH_INDEX=""
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/run/secrets/ca \
    --mount=type=cache,target=/root/.cache/pip \
    pip() { /opt/pip/bin/pip --quiet --disable-pip-version-check --python /opt/csrn/bin/python "$@"; } \
    && if [ -z "${TORCH_INDEX}" ]; then \
        pip install --no-deps --require-hashes -r requirements.lock; \
    else \
        awk '/^[a-z]/ { keep = !/^(torch|torchvision|triton|nvidia-.*|cuda-.*)==/ } keep' \
            requirements.lock > without_torch.lock; \
        pip install --no-deps --require-hashes -r without_torch.lock; \
        mapfile -t torch < <(grep -oE '^torch(vision)?==[^ ]+' requirements.lock); \
        pip install --no-deps --index-url "${TORCH_INDEX}" "${torch[@]}"; \
    fi \
    && mapfile -t unneeded < <(/opt/csrn/bin/python unneeded.py pyproject.toml) \
    && pip uninstall --yes "${unneeded[@]}"


FROM dependencies AS application
COPY README.md LICENSE ./
COPY app app
COPY model model
COPY weights weights
RUN /opt/pip/bin/pip --python /opt/csrn/bin/python install --quiet --disable-pip-version-check \
    --no-index --no-deps --no-build-isolation --prefix /application .


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
# matplotlib, which mediapipe imports, wants a folder of its own; all else that is written goes to /data.
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
    CMD ["python3", "-ISc", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["tini", "--", "csrn"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
