# The operator's own image. `make image IMG=…` makes the wheels and builds it.
ARG BASE=python:3.13-slim-trixie
FROM ${BASE}

# In the build pod, fetch clones with git and push copies the image with skopeo. netavark is the least
# of the packages that Debian 12 lets skopeo choose from; it is not run.
RUN if ! command -v git || ! command -v skopeo; then apt-get update && apt-get install -y --no-install-recommends git skopeo netavark ca-certificates && rm -rf /var/lib/apt/lists/*; fi

COPY wheels /wheels
RUN python3 -m venv /opt/goservice && /opt/goservice/bin/pip install --no-cache-dir --no-index --find-links=/wheels goservice-operator

ENV USER=goservice HOME=/tmp PATH=/opt/goservice/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["/opt/goservice/bin/goservice"]
