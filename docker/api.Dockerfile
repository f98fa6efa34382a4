# The API, for `docker compose up --build` and, as BentoML's template (bentofile.yaml), for `bentoml
# containerize`. The packages come locked by hash, in a stage of their own: no compiler, git or
# installer stays in the image.
FROM python:3.11.14-slim-bookworm AS packages
# The defaults fit a Bento; docker-compose.yml gives those of a checkout.
ARG REQUIREMENTS=env/python/requirements.txt
COPY ${REQUIREMENTS} /tmp/requirements.txt
# Bytecode is compiled here, because the container's file system is read-only. What is never read at
# run time goes first: tests, headers and sources of compiled modules; ONNX Runtime's library for C,
# which its Python module contains a second time, and its converters of models; MLflow's server; the
# clients of Databricks and Google, which MLflow imports for addresses of Databricks alone.
RUN python -m venv --without-pip /app/.venv && \
    pip --python /app/.venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes --no-deps --no-compile -r /tmp/requirements.txt && \
    cd /app/.venv/lib/python3.11/site-packages && \
    find . -type d \( -name test -o -name tests \) -prune -exec rm -rf {} + && \
    find . -type f -regex '.*\.\(a\|c\|cpp\|h\|hpp\|pxd\|pyi\|pyx\)' -delete && \
    rm -rf onnxruntime/capi/libonnxruntime.so.* onnxruntime/quantization onnxruntime/tools \
        onnxruntime/transformers onnx/reference numpy/distutils sqlalchemy/testing \
        mlflow/assistant mlflow/server databricks/sdk google/auth google/oauth2 pyasn1* && \
    { /app/.venv/bin/python -m compileall -q -j 0 /app/.venv/lib || true; }

FROM python:3.11.14-slim-bookworm
# History, deployments, the local registry and the Bento store: all that must outlive the container.
RUN groupadd --gid 1034 bentoml && useradd --uid 1034 --gid bentoml --create-home bentoml && \
    mkdir -m 700 /var/lib/student-success && chown bentoml:bentoml /var/lib/student-success
COPY --from=packages /app/.venv /app/.venv
WORKDIR /home/bentoml/bento/src
ARG SOURCE=src
COPY ${SOURCE}/service.py ${SOURCE}/grade_models.py ./
COPY ${SOURCE}/data/sample.csv data/
COPY ${SOURCE}/training training
COPY ${SOURCE}/student_success student_success
# Files of a Bento in a state directory are readable by their owner only. The images of other Bentos
# are started with the command `serve`.
RUN chmod -R go+rX . && /app/.venv/bin/python -m compileall -q . && \
    printf '#!/bin/sh\nexec python -m student_success serve\n' > /app/.venv/bin/serve && \
    chmod 755 /app/.venv/bin/serve
ENV PATH=/app/.venv/bin:${PATH} \
    LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    STATE_DIR=/var/lib/student-success \
    BENTOML_HOME=/var/lib/student-success/bentoml \
    BENTOML_CONTAINERIZED=true BENTOML_DO_NOT_TRACK=True \
    HOST=0.0.0.0 PORT=8000 UI_ENABLED=false
VOLUME /var/lib/student-success
USER bentoml
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as ask; ask.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/readyz', timeout=4)"]
CMD ["serve"]
