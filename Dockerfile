# syntax=docker/dockerfile:1

FROM python:3.12-slim AS build
WORKDIR /build
RUN python -m venv /opt/kuueri
# The dependencies first: they change less often than the code, and stay cached.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY kuueri_grpc/__init__.py kuueri_grpc/__init__.py
RUN /opt/kuueri/bin/pip install --no-cache-dir --constraint constraints.txt '.[gcp]'
COPY kuueri_grpc kuueri_grpc
RUN /opt/kuueri/bin/pip install --no-cache-dir --no-deps --force-reinstall .

FROM python:3.12-slim
LABEL org.opencontainers.image.title="Kuueri Tasks" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --create-home --uid 10001 kuueri \
 && install --directory --owner kuueri --group kuueri /var/lib/kuueri
COPY --from=build /opt/kuueri /opt/kuueri
ENV PATH=/opt/kuueri/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TASKS_HOST=0.0.0.0 \
    TASKS_ADMIN_PORT=8203 \
    TASKS_DATA_DIR=/var/lib/kuueri
USER kuueri
# It listens beyond the container, so it starts with certificates (TASKS_TLS__CERT, TASKS_TLS__KEY) or, where the
# network is your own, with TASKS_INSECURE=true; and with TASKS_ADMIN_TOKEN, which Register needs then, or, to try it out,
# with TASKS_LEVEL=DEVELOPMENT.
# config.json is looked for in resource/config below this directory.
WORKDIR /home/kuueri
VOLUME /var/lib/kuueri
EXPOSE 8202
# Unhealthy while calls should not be sent here, be it that the store is away. The admin port is the container's own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s CMD ["python", "-c", \
  "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"TASKS_ADMIN_PORT\"]}/readyz', timeout=4)"]
ENTRYPOINT ["kuueri"]
CMD ["serve"]
