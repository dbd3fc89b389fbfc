# Made by `headrace dockerfile`. Build it in the folder of langgraph.json; .dockerignore keeps .git,
# .venv, .headrace and .env out of the image.

ARG HEADRACE_IMAGE=headrace:VERSION
# hadolint ignore=DL3006
FROM ${HEADRACE_IMAGE}
USER 0:0
WORKDIR /app

# pip is here while the image is built. The constraints are what headrace runs with: a
# requirement that contradicts them fails here.
ARG PIP_CONSTRAINT=/opt/headrace/constraints.txt
RUN python -m ensurepip --default-pip

COPY . .

# Secrets stay out of the image: give them to the container (docker run --env-file .env).
RUN test ! -e .env || { echo '.env would be baked into the image: name it in .dockerignore' >&2; exit 1; }

# hadolint ignore=DL3013
RUN { python -m compileall -q . || true; } \
    && chmod -R a+rX . \
    && pip uninstall --quiet --yes --root-user-action=ignore setuptools pip

USER 10001:10001
