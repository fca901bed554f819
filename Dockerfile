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
    TASKS_DATA_DIR=/var/lib/kuueri
USER kuueri
# config.json is looked for in resource/config below this directory.
WORKDIR /home/kuueri
VOLUME /var/lib/kuueri
EXPOSE 8202
ENTRYPOINT ["kuueri"]
CMD ["serve"]
