# syntax=docker/dockerfile:1

# To have the same image of Python each time, name it by its digest: --build-arg PYTHON_IMAGE=python:3.12-slim@sha256:...
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
# The dependencies first: they change less often than the code, and stay cached. Wheels alone, each with the SHA-256 that is
# in the lock: no code of a package runs while it is installed.
COPY requirements.lock requirements-build.lock ./
ENV PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_REQUIRE_HASHES=1
RUN python -m venv /opt/build && /opt/build/bin/pip install --requirement requirements-build.lock
RUN python -m venv /opt/kuueri && /opt/kuueri/bin/pip install --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY kuueri_grpc kuueri_grpc
RUN PATH=/opt/build/bin:$PATH python -m hatchling build --target wheel --directory dist \
 && PIP_REQUIRE_HASHES=0 /opt/kuueri/bin/pip install --no-deps --no-index dist/*.whl

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Kuueri Tasks" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 kuueri \
 && useradd --create-home --uid 10001 --gid 10001 kuueri \
 && install --directory --owner kuueri --group kuueri /var/lib/kuueri
COPY --from=build /opt/kuueri /opt/kuueri
ENV PATH=/opt/kuueri/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TASKS_HOST=0.0.0.0 \
    TASKS_ADMIN_PORT=8203 \
    TASKS_DATA_DIR=/var/lib/kuueri
# By number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 10001:10001
# It listens beyond the container, so it starts with certificates (TASKS_TLS__CERT, TASKS_TLS__KEY) or, where the
# network is your own, with TASKS_INSECURE=true; and with TASKS_ADMIN_TOKEN, which Register needs then, or, to try it out,
# with TASKS_LEVEL=DEVELOPMENT.
# config.json is looked for in resource/config below this directory.
WORKDIR /home/kuueri
VOLUME /var/lib/kuueri
# gRPC; health and metrics, which listen on the container's own loopback address unless TASKS_ADMIN_HOST is set.
EXPOSE 8202 8203
# Unhealthy when a restart would help. Whether calls should be sent here, be it that the store is away, is /readyz.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s CMD ["python", "-c", \
  "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"TASKS_ADMIN_PORT\"]}/healthz', timeout=4)"]
ENTRYPOINT ["kuueri"]
CMD ["serve"]
