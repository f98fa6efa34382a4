# The web interface: a client of the API, with no model, database or token of an administrator.
FROM python:3.11.14-slim-bookworm AS packages
COPY requirements/ui.txt /tmp/requirements.txt
RUN python -m venv --without-pip /app/.venv && \
    pip --python /app/.venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes --no-deps --no-compile -r /tmp/requirements.txt && \
    find /app/.venv -type d -name tests -prune -exec rm -rf {} + && \
    { /app/.venv/bin/python -m compileall -q -j 0 /app/.venv/lib || true; }

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 1034 ui && useradd --uid 1034 --gid ui --create-home ui
COPY --from=packages /app/.venv /app/.venv
WORKDIR /app/src
COPY gradio_ui gradio_ui
COPY student_success/__init__.py student_success/
COPY student_success/core student_success/core
COPY student_success/api student_success/api
COPY student_success/server student_success/server
COPY student_success/domain student_success/domain
COPY student_success/profiles student_success/profiles
RUN /app/.venv/bin/python -m compileall -q .
ENV PATH=/app/.venv/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    UI_HOST=0.0.0.0 UI_PORT=7860 \
    STATE_DIR=/tmp/state
USER ui
EXPOSE 7860
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as ask; ask.urlopen(f'http://127.0.0.1:{os.environ[\"UI_PORT\"]}/fr/', timeout=4)"]
CMD ["python", "-m", "gradio_ui"]
