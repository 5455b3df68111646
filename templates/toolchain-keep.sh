# shellcheck shell=sh
# Lays out the caches on a service's cache claim before its build, and the toolchain too where a
# third argument says how. Run as root in a container of the builder image by `sh -euc`.
# No part of a repository runs here, and several of these may run at once on one claim, on nodes of
# several architectures: what depends on the architecture has it in its name.
#   $1  the folder that all builds with this builder image share
#   $2  the folder of this service alone; the user of builds, 65532, writes build, mod and tmp in it
#   $3  the program of toolchain-copy.sh, or nothing where Go does not come by the claim
#   $4  where the build sees $1
#
# The container runtime sets HOSTNAME to the pod's name, so that two builds have not one temporary
# folder: POSIX does not promise it, the runtime does.
# shellcheck disable=SC3028,SC2064

# $1: what builds with this image share; $2: what the builds of this service keep; $3: copy, or nothing;
# $4: where the build sees $1.
version="$(go version | tr -c 'A-Za-z0-9.\n' -)" # go-version-go1.27.0-linux-amd64
arch="${version##*-}"
# One build compiles, the others wait for it: for five minutes at most, and for none that is dead.
# A folder is the lock, as not every file system has another; who holds it touches it.
lock="$1/lock-$version"
held=""
waited=0
while [ ! -d "$1/$version" ]; do
  if mkdir "$lock" 2> /dev/null; then
    held=yes
    break
  fi
  # No lock can be made here, or the wait is over: this build compiles by itself.
  if [ ! -d "$lock" ] || [ "$waited" -ge 300 ]; then break; fi
  if [ "$waited" = 0 ]; then echo "Another build compiles the standard library: this one waits."; fi
  if [ -n "$(find "$lock" -maxdepth 0 -mmin +1 2> /dev/null)" ]; then
    rmdir "$lock" 2> /dev/null || true
  else
    sleep 2
  fi
  waited=$((waited + 2))
done
if [ ! -d "$1/$version" ]; then
  if [ -n "$held" ]; then
    (while sleep 10; do touch -c "$lock"; done) > /dev/null 2>&1 &
    trap "kill $! 2> /dev/null || true; rmdir '$lock' 2> /dev/null || true" EXIT
  fi
  echo "Compiling the standard library of $(go version), once for all builds with this image."
  new="$1/new-$HOSTNAME"
  rm -rf "$new"
  mkdir -p "$new/std" "$new/tmp"
  if [ -n "$3" ]; then sh -euc "$3" copy "$new"; fi
  GOCACHE="$new/std" GOTMPDIR="$new/tmp" go build -trimpath -tags timetzdata std
  rm -rf "$new/tmp"
  # Whole or not at all; of two builds at once the first one wins.
  mv -T "$new" "$1/$version" 2> /dev/null || rm -rf "$new"
elif [ -n "$held" ]; then
  rmdir "$lock" # another build was done between the look and the lock
fi
if [ -n "$3" ]; then
  # Certificates are the same whatever the architecture.
  ln -s "$version/etc" "$1/etc-$HOSTNAME"
  mv -T "$1/etc-$HOSTNAME" "$1/etc"
fi
# Of this architecture only: a build of another one may run with its own, which is as old.
# A build beside this one may rename what is looked at: what is left is for the next one.
find "$1" -mindepth 1 -maxdepth 1 -type d ! -name "$version" -mtime +1 \
  \( -name "go-version-*-$arch" -o -name 'new-*' -o -name 'lock-*' \) -exec rm -rf {} + \
  2> /dev/null || true
# As it lay before caches had the architecture in their name.
if [ -d "$2/build" ] && [ ! -L "$2/build" ]; then
  was="$(cat "$2/begun" 2> /dev/null || true)"
  rm -rf "$2/begun" "$2/build-${was##*-}"
  mv "$2/build" "$2/build-${was##*-}"
  echo "$was" > "$2/begun-${was##*-}"
fi
if [ "$(cat "$2/begun-$arch" 2> /dev/null)" != "$version" ]; then
  echo "This service's cache begins with it."
  rm -rf "$2/build-$arch"
  cp -R "$1/$version/std" "$2/build-$arch"
  mkdir -p "$2/mod" "$2/tmp"
  chown -R 65532:65532 "$2/build-$arch"
  chown 65532:65532 "$2/mod" "$2/tmp"
  chmod 755 "$2"
  echo "$version" > "$2/begun-$arch"
fi
# What this build sees: its own, though an image's name may come to mean a newer Go while it runs.
ln -sfn "build-$arch" "$2/build"
if [ -n "$3" ]; then ln -sfn "$4/$version" "$2/go"; fi
