#!/bin/sh
# Runs a process as it is in a pod, in a mount namespace of its own. The file system over /run is the
# namespace's, and goes with it.
#   $1  the folder that takes the place of the service account's
#   …   the process and its arguments
mount -t tmpfs goservice-test /run
mkdir -p /var/run/secrets/kubernetes.io
ln -s "$1" /var/run/secrets/kubernetes.io/serviceaccount
shift
exec "$@"
