# Made by `headrace dockerfile`. Build it in the folder of langgraph.json; .dockerignore keeps .git,
# .venv, .headrace and .env out of the image.

ARG PYTHON_IMAGE=python:3.12-slim
# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE}
# headrace in an environment of its own, with the versions that it was released with.
RUN python -m venv /opt/headrace \
    && /opt/headrace/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps headrace==VERSION \
    && cp /opt/headrace/lib/python*/site-packages/headrace/_constraints.txt /opt/headrace/constraints.txt \
    && /opt/headrace/bin/pip install --no-cache-dir --disable-pip-version-check --constraint /opt/headrace/constraints.txt headrace==VERSION
RUN groupadd --gid 10001 headrace \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin headrace \
    && install --directory --mode=1777 /run/headrace
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HEADRACE_HOST=0.0.0.0 \
    HEADRACE_RUNTIME_DIR=/run/headrace
EXPOSE 8123
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-Ic", \
    "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('HEADRACE_PORT', 8123)), timeout=4); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["headrace"]
CMD ["serve"]
WORKDIR /app

# pip is here while the image is built. The constraints are what headrace runs with: a
# requirement that contradicts them fails here.
ARG PIP_CONSTRAINT=/opt/headrace/constraints.txt
RUN python -m ensurepip --default-pip

COPY . .

# Secrets stay out of the image: give them to the container (docker run --env-file .env).
RUN test ! -e .env || { echo '.env would be baked into the image: name it in .dockerignore' >&2; exit 1; }

# hadolint ignore=DL3013
RUN pip install --no-cache-dir --root-user-action=ignore \
        --requirement requirements.txt \
    && { python -m compileall -q . || true; } \
    && chmod -R a+rX . \
    && pip uninstall --quiet --yes --root-user-action=ignore setuptools pip

USER 10001:10001
