#!/bin/sh
# Fetch Debian packages that exclude each other when they are installed, such as mail servers: tests/debs.sh NAME...
#
# They go into .debs; tests unpack them into machines of their own (tests/fixtures/machine.py).
set -eu
cd "$(dirname "$0")/.."
mkdir -p .debs
cd .debs
missing=
for name in "$@"; do
    ls "${name}"_*.deb >/dev/null 2>&1 || missing="$missing $name"
done
[ -n "$missing" ] || exit 0
# As root, apt-get changes to a user who cannot write here.
# shellcheck disable=SC2086  # a list of words
apt-get download -qq -o APT::Sandbox::User= $missing && exit 0
cat >&2 <<END
debs: apt-get cannot download$missing; perhaps it has old lists. Please try:
    sudo apt-get update
END
exit 69
