#!/bin/sh
# In place of `go` in test_toolchain.py: it compiles nothing, and tells of itself what the scripts ask.
case "$1" in
env) echo "$FAKE_GOROOT" ;;
version) echo "go version $(cat "$FAKE_GOROOT/VERSION") linux/${FAKE_ARCH:-amd64}" ;;
build) echo "$*" >> "$FAKE_GOROOT/../calls"; echo object > "$GOCACHE/object" ;;
esac
