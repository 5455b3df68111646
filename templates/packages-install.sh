# shellcheck shell=sh
# Installs packages into the builder stage, Alpine's or Debian's. In a Dockerfile its lines become
# one: each ends in ; or in a word of the shell's grammar, and there is no comment.
#   $@  the packages

if command -v apk > /dev/null; then
apk add --no-cache "$@";
else
apt-get update;
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@";
rm -rf /var/lib/apt/lists/*;
fi
