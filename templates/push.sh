# shellcheck shell=sh
# Pushes the image that a build has left as an OCI layout: under its tag, or by its digest alone where
# the registry keeps that tag as it is. Run in the operator's image by `sh -euc`; writes to no folder.
#   $1  what Skopeo's last line says when a registry refuses a tag, an extended regular expression
#   $2  the file that gets the image's digest if it could be pushed by that alone
#   $3  the layout: oci:FOLDER
#   $4  where it goes: docker://REPOSITORY:TAG
#   $5  not empty: plain HTTP will do
#   $6  the file with user and password; empty: there is none

refused="$1" report="$2" layout="$3" repository="${4%:*}" tag="${4##*:}" plain="$5" secret="$6"

# The layout is pushed byte for byte. What was built a moment ago has no signature to be asked for.
push() {
  skopeo copy --preserve-digests --insecure-policy --retry-times=3 \
    ${plain:+--dest-tls-verify=false} ${secret:+"--authfile=$secret"} "$layout" "$1"
}
# The digest of a manifest; of none it is that of nothing.
digest() { skopeo inspect --raw "$@" | sha256sum | cut -d ' ' -f 1; }

# Progress goes on to standard output; what it says of its end is kept.
exec 3>&1
if said="$(push "$repository:$tag" 2>&1 >&3)"; then
  if [ -n "$said" ]; then echo "$said" >&2; fi
  exit 0
fi
if echo "$said" | grep 'level=fatal' | grep -Eq "$refused"; then
  made="$(digest "$layout")"
  there="$(digest ${plain:+--tls-verify=false} ${secret:+"--authfile=$secret"} "$repository:$tag" 2> /dev/null)"
  if [ "$made" = "$there" ]; then
    echo "The registry keeps the tag $tag, which stands for this very image."
    exit 0
  fi
  echo "The registry refuses the tag $tag: the image is pushed by its digest alone."
  if push "$repository@sha256:$made"; then
    echo "sha256:$made" > "$report"
    exit 0
  fi
fi
# Why the tag was refused comes last: the container's termination message holds it.
echo "$said" >&2
exit 1
