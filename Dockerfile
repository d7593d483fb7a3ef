# An image with the command line: VARIANT=light scores, compares, reports and asks servers; VARIANT=cpu also runs and
# trains models on the CPU; VARIANT=cuda on a GPU, also with vLLM (its libraries come with the wheels: no CUDA base image).
#
#   docker build --build-arg VARIANT=cuda --build-arg VERSION="$(git describe --tags)" -t cipo-eval .
#   docker run --gpus all -v "$PWD:/work" cipo-eval run --engine vllm --model CKPT --tasks math500
#
# Programs are confined best with bubblewrap, which needs user namespaces (--security-opt seccomp=unconfined where the
# container's profile forbids them); `cipo-eval doctor` says what works.
FROM python:3.12-slim-bookworm AS wheel
WORKDIR /source
COPY . .
ARG VERSION=0.2.0.dev0
ENV SETUPTOOLS_SCM_PRETEND_VERSION=${VERSION}
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim-bookworm
ARG VARIANT=cpu
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# bubblewrap in the version that Debian's stable release has
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends bubblewrap && rm -rf /var/lib/apt/lists/*
# torch's ordinary wheel brings CUDA along; the other index has one without
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    case "${VARIANT}" in \
      light) pip install --no-cache-dir /wheels/*.whl ;; \
      cpu) pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
             "$(echo /wheels/*.whl)[train]" ;; \
      cuda) pip install --no-cache-dir "$(echo /wheels/*.whl)[train,vllm]" ;; \
      *) echo "VARIANT is light, cpu or cuda" >&2; exit 2 ;; \
    esac
RUN useradd --create-home --uid 1000 cipo
USER 1000
WORKDIR /work
ENTRYPOINT ["cipo-eval"]
