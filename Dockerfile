# syntax=docker/dockerfile:1
#
# For the CPU:
#   docker build --tag facestage .
# For an NVIDIA GPU (the driver and the container toolkit are the host's):
#   docker build --tag facestage:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
#
# Run it: see docs/platforms.md.

ARG PYTHON=3.13
FROM python:${PYTHON}-slim-trixie AS build

# torch's own index has builds without CUDA, which are a tenth of the size.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Such as [cuda,ctk]: the sliding windows on the GPU, too.
ARG EXTRAS=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/facestage
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE MANIFEST.in ./
COPY src src
COPY core core
COPY stream stream
# The bounds of torch stand in pyproject.toml alone: what they allow is taken from its index first.
RUN torch=$(/opt/facestage/bin/python -c "import tomllib; print(next(d for d in \
        tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'] \
        if d.startswith('torch')))") \
    && /opt/facestage/bin/pip install --index-url "${TORCH_INDEX}" "${torch}" torchvision \
    && /opt/facestage/bin/pip install ".${EXTRAS}" \
    && /opt/facestage/bin/pip uninstall --yes pip

FROM python:${PYTHON}-slim-trixie

LABEL org.opencontainers.image.title="facestage" \
    org.opencontainers.image.description="Facial Action Units, live and explained" \
    org.opencontainers.image.licenses="MIT"

# Nobody logs in, and nothing is kept: no home, no shell. A camera of the host belongs to `video`.
RUN groupadd --system --gid 10001 facestage \
    && useradd --system --uid 10001 --gid facestage --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin --groups video facestage \
    && install --directory --owner facestage --group facestage /data
COPY --from=build /opt/facestage /opt/facestage
ENV PATH=/opt/facestage/bin:$PATH PYTHONUNBUFFERED=1 FACESTAGE_CACHE=/data/models
# By number: an orchestrator then sees that it is not root.
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8765

# Whoever speaks http:// to a port with TLS is answered 400: the server is there all the same.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "\
import os, urllib.error, urllib.request\n\
port = os.environ.get('FACESTAGE_LIVE_PORT') or os.environ.get('FACESTAGE_DEMO_PORT') or '8765'\n\
try:\n\
    urllib.request.urlopen(f'http://127.0.0.1:{port}/healthz', timeout=4)\n\
except urllib.error.HTTPError as error:\n\
    raise SystemExit(error.code != 400)\n\
"]

ENTRYPOINT ["facestage"]
# Clients come from outside the container, so the server needs a token (FACESTAGE_DEMO_TOKEN).
CMD ["demo", "--no-browser", "--host", "0.0.0.0"]
