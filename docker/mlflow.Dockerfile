# The MLflow server: tracking, registry, and artefacts handed through, so that nobody else needs the
# store they are in.
FROM python:3.11.14-slim-bookworm AS packages
COPY requirements/mlflow.txt /tmp/requirements.txt
RUN python -m venv --without-pip /app/.venv && \
    pip --python /app/.venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes --no-deps --no-compile -r /tmp/requirements.txt && \
    find /app/.venv -type d -name tests -prune -exec rm -rf {} + && \
    { /app/.venv/bin/python -m compileall -q -j 0 /app/.venv/lib || true; }

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 1034 mlflow && useradd --uid 1034 --gid mlflow --create-home mlflow && \
    mkdir -m 700 /mlflow && chown mlflow:mlflow /mlflow
COPY --from=packages /app/.venv /app/.venv
COPY docker/mlflow-server docker/mlflow-healthy docker/mlflow-bucket /usr/local/bin/
ENV PATH=/app/.venv/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    MLFLOW_BACKEND_STORE_URI=sqlite:////mlflow/mlflow.db \
    MLFLOW_ARTIFACTS_DESTINATION=/mlflow/artifacts
VOLUME /mlflow
WORKDIR /tmp
USER mlflow
EXPOSE 5000
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 CMD ["mlflow-healthy"]
CMD ["mlflow-server"]
