#!/bin/sh
# Install Debian packages where we may (root or sudo), else name the command and stop: tests/packages.sh NAME...
#
# Nothing is asked, and no service is started by the installation.
set -eu
install="apt-get install --no-install-recommends $*"

stop() {
    printf 'packages: %s\n    sudo %s\n' "$1" "$install" >&2
    exit 69
}

command -v apt-get >/dev/null || stop "missing here, by their Debian names:"
if [ "$(id -u)" = 0 ]; then
    root=
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [ -t 0 ] && [ -z "${CI:-}" ]; }; }; then
    root=sudo
else
    stop "system packages are missing, and neither root nor sudo is at hand. Please run:"
fi

# Written out for one shell of root. policy-rc.d (exit 101) is how Debian forbids starting services.
# shellcheck disable=SC2016  # expanded by that shell, not by this one
$root sh -eu -c '
    export DEBIAN_FRONTEND=noninteractive
    guard=/usr/sbin/policy-rc.d
    if [ ! -e "$guard" ]; then
        printf "#!/bin/sh\nexit 101\n" >"$guard"
        chmod 755 "$guard"
        trap "rm -f $guard" EXIT
        trap "exit 1" INT TERM HUP
    fi
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections 2>/dev/null || true
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >/dev/null
' sh "$@" </dev/null || stop "the installation failed. Please try:"
