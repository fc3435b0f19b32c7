#!/bin/sh
# The first command of the README: install into a virtual environment, then show the proxy at work.
#
# Needs no mail account and no mail server. Options are those of `secmailproxy demo`: --json, --keep.
set -eu
folder=$(cd "$(dirname "$0")/.." && pwd)
# The tests' installation is a larger one: leave it as it is.
if ! grep -qs '^demo,test$' "$folder/.venv/installed"; then
    "$folder/examples/install.sh" demo
else
    "$folder/examples/install.sh" demo,test
fi
exec "$folder/.venv/bin/secmailproxy" demo "$@"
