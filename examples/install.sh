#!/bin/sh
# Install secmailproxy from this checkout into .venv, with the extras named: examples/install.sh [EXTRA,...]
#
# Needs Python 3.11 or later and its venv module (Debian: python3-venv, installed here as root or with sudo).
# Does nothing when the installation is as it should be. PYTHON names another interpreter.
set -eu
cd "$(dirname "$0")/.."
extras=${1:-}
python=${PYTHON:-python3}

stop() {
    printf 'install: %s\n' "$*" >&2
    exit 69
}

command -v "$python" >/dev/null || stop "there is no $python; install Python 3.11 or later (Debian: apt-get install python3-venv)."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    stop "$("$python" --version) is too old; Python 3.11 or later is needed. Set PYTHON to name another one."

# Debian ships venv without ensurepip: then `python3 -m venv` fails half-way.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "install: python3-venv is missing; installing it" >&2
    tests/packages.sh python3-venv
fi

# What the environment was made of: when nothing of it changed, there is nothing to do.
interpreter=$("$python" -c 'import sys; print(*sys.version.split(), sys.base_prefix)')
wanted=$(echo "$interpreter"; pwd; echo "$extras"; cksum pyproject.toml)
if [ -x .venv/bin/secmailproxy ] && [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
echo "install: installing secmailproxy${extras:+ with $extras} into $(pwd)/.venv" >&2
# Another interpreter, or an installation that was cut short: begin anew.
clear=--clear
[ "$(head -n 1 .venv/installed 2>/dev/null)" != "$interpreter" ] || clear=
rm -f .venv/installed
"$python" -m venv ${clear:+"$clear"} .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --editable ".${extras:+[$extras]}"
printf '%s\n' "$wanted" >.venv/installed
