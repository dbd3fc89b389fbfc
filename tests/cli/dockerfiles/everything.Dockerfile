# Made by `headrace dockerfile`. Build it in the folder of langgraph.json; .dockerignore keeps .git,
# .venv, .headrace and .env out of the image.

ARG HEADRACE_IMAGE=headrace:VERSION
# hadolint ignore=DL3006
FROM ${HEADRACE_IMAGE}
USER 0:0
WORKDIR /app
RUN python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12) and "langgraph.json asks for Python 3.12, HEADRACE_IMAGE has another")'

# pip is here while the image is built. The constraints are what headrace runs with: a
# requirement that contradicts them fails here.
ARG PIP_CONSTRAINT=/opt/headrace/constraints.txt
RUN python -m ensurepip --default-pip

# dockerfile_lines of langgraph.json
RUN apt-get update && apt-get install -y --no-install-recommends libjpeg62-turbo=1:2.1.* && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir pillow==12.0.0

COPY . .

# Secrets stay out of the image: give them to the container (docker run --env-file .env).
# The server looks for the file that langgraph.json names: it finds an empty one.
RUN test ! -e .env || { echo '.env would be baked into the image: name it in .dockerignore' >&2; exit 1; } \
    && test ! -e secret/prod.env || { echo 'secret/prod.env would be baked into the image: name it in .dockerignore' >&2; exit 1; } \
    && mkdir -p secret && touch secret/prod.env

# hadolint ignore=DL3013
RUN pip install --no-cache-dir --root-user-action=ignore \
        --requirement requirements.txt \
    && { python -m compileall -q . || true; } \
    && chmod -R a+rX . \
    && pip uninstall --quiet --yes --root-user-action=ignore setuptools pip

USER 10001:10001
