#!/bin/sh
# Builds relay's image with docker, podman or buildah: what `make image` runs, with what it was told in the environment.
# The image is known by its name without localhost/ too, as clusters look for it (podman and buildah put that before it).
set -eu
cd "$(dirname "$0")/../.."

VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
IMAGE=${IMAGE:-relay:$VERSION}
REVISION=${REVISION:-$(git rev-parse --verify --quiet HEAD 2>/dev/null || true)}
if [ -n "$REVISION" ] && [ -n "$(git status --porcelain 2>/dev/null)" ]; then REVISION=$REVISION-changed; fi

say() { printf '%s\n' "$*" >&2; }

# docker and podman may be there without a daemon or rights to use; buildah asks for nothing.
builder() {
  for tool in docker podman buildah; do
    if [ "$tool" = buildah ]; then question=version; else question=info; fi
    if command -v $tool >/dev/null && $tool $question >/dev/null 2>&1; then echo $tool; return; fi
  done
  say 'make image needs docker, podman or buildah, and none of them works here'
  exit 1
}

# The name by which a cluster finds the image: a registry's as it is, any other in the default one's library.
full_name() {
  case $IMAGE in
    *.*/* | *:*/* | localhost/*) echo "$IMAGE" ;;
    */*) echo "docker.io/$IMAGE" ;;
    *) echo "docker.io/library/$IMAGE" ;;
  esac
}

build() {
  set -- --build-arg "VERSION=$VERSION" --build-arg "REVISION=$REVISION" --build-arg "SOURCE=${SOURCE:-}" --tag "$IMAGE"
  if [ -n "${BASE:-}" ]; then set -- "$@" --build-arg "BASE=$BASE"; fi
  if [ -n "${PIP_CONF:-}" ]; then set -- "$@" --secret "id=pip.conf,src=$PIP_CONF"; fi
  if [ -n "${CA:-}" ]; then set -- "$@" --secret "id=ca.crt,src=$CA"; fi
  case $BUILDER in
    docker) DOCKER_BUILDKIT=1 docker build "$@" ${BUILD_ARGS:-} . ;;
    # Docker's format, as OCI's knows no health check.
    *) $BUILDER build --format docker --tag "$(full_name)" "$@" ${BUILD_ARGS:-} . ;;
  esac
}

# Into a cluster of this machine, by way of a file, which works for whatever has built the image.
load() {
  archive=$(mktemp -d)/relay.tar
  trap 'rm -rf "$(dirname "$archive")"' EXIT
  case $BUILDER in
    docker) docker save --output "$archive" "$IMAGE" ;;
    *) $BUILDER push --quiet "$(full_name)" "docker-archive:$archive:$(full_name)" ;;
  esac
  case $LOAD in
    kind) kind load image-archive "$archive" --name "${CLUSTER:-kind}" ;;
    minikube) minikube image load "$archive" --profile "${CLUSTER:-minikube}" ;;
    k3d) k3d image import "$archive" --cluster "${CLUSTER:-k3s-default}" ;;
  esac
}

case ${LOAD:-} in '' | kind | minikube | k3d) ;; *) say "LOAD=$LOAD: expected kind, minikube or k3d"; exit 2 ;; esac
if [ -n "${PUSH:-}" ]; then
  case $IMAGE in
    */*) ;;
    *) say "PUSH=1 needs IMAGE=registry/name:tag: $IMAGE names no registry"; exit 2 ;;
  esac
fi
BUILDER=${BUILDER:-$(builder)}
say "building $IMAGE with $BUILDER"
build
if [ -n "${PUSH:-}" ]; then $BUILDER push "$IMAGE"; fi
if [ -n "${LOAD:-}" ]; then load; fi
say "built $IMAGE"
