# shellcheck shell=sh
# Copies the Go of a builder image to where the build sees it. Run in a container of that image by
# `sh -euc`: by itself where nothing is kept between builds, else by toolchain-keep.sh.
#   $1  the folder that takes the place of /: it gets usr/local/go and etc/ssl/certs

go="$(go env GOROOT)"
mkdir -p "$1/usr/local/go" "$1/etc/ssl/certs"
for part in bin lib pkg src go.env VERSION; do
  if [ -e "$go/$part" ]; then cp -R "$go/$part" "$1/usr/local/go/"; fi
done
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
  cp -L /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"
fi
