# shellcheck shell=sh
# Lays out the caches on a service's cache claim before its build, and the toolchain too where a
# third argument says how. Run as root in a container of the builder image by `sh -euc`.
# No part of a repository runs here, and several of these may run at once on one claim.
#   $1  the folder that all builds with this builder image share
#   $2  the folder of this service alone; the user of builds, 65532, writes build, mod and tmp in it
#   $3  the program of toolchain-copy.sh, or nothing where Go does not come by the claim
#
# The container runtime sets HOSTNAME to the pod's name, so that two builds have not one temporary
# folder: POSIX does not promise it, the runtime does.
# shellcheck disable=SC3028

# $1: what builds with this image share; $2: what the builds of this service keep; $3: copy, or nothing.
version="$(go version | tr -c 'A-Za-z0-9.\n' -)"
if [ ! -d "$1/$version" ]; then
  echo "Compiling the standard library of $(go version), once for all builds with this image."
  new="$1/new-$HOSTNAME"
  rm -rf "$new"
  mkdir -p "$new/std" "$new/tmp"
  if [ -n "$3" ]; then sh -euc "$3" copy "$new"; fi
  GOCACHE="$new/std" GOTMPDIR="$new/tmp" go build -trimpath -tags timetzdata std
  rm -rf "$new/tmp"
  # Whole or not at all; of two builds at once the first one wins.
  mv -T "$new" "$1/$version" 2> /dev/null || rm -rf "$new"
fi
if [ -n "$3" ]; then
  # An image's name may come to mean a newer Go: a build that runs keeps the one it has begun with.
  for part in usr etc; do
    ln -s "$version/$part" "$1/$part-$HOSTNAME"
    mv -T "$1/$part-$HOSTNAME" "$1/$part"
  done
fi
# A build beside this one may rename what is looked at: what is left is for the next one.
find "$1" -mindepth 1 -maxdepth 1 -type d ! -name "$version" -mtime +1 -exec rm -rf {} + \
  2> /dev/null || true
if [ "$(cat "$2/begun" 2> /dev/null)" != "$version" ]; then
  echo "This service's cache begins with it."
  rm -rf "$2/build"
  cp -R "$1/$version/std" "$2/build"
  mkdir -p "$2/mod" "$2/tmp"
  chown -R 65532:65532 "$2/build"
  chown 65532:65532 "$2/mod" "$2/tmp"
  chmod 755 "$2"
  echo "$version" > "$2/begun"
fi
