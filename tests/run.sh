#!/bin/sh
# The second command of the README: install what the tests need, then run every check and every test.
#
# Arguments are passed on to pytest, such as: tests/run.sh tests/mime -k header
set -eu
cd "$(dirname "$0")/.."
# Debian's servers live where the PATH of ordinary users does not look.
PATH=$PATH:/usr/sbin:/sbin
export PATH

# Program and the Debian package that holds it.
missing=
while read -r program package; do
    command -v "$program" >/dev/null || missing="$missing $package"
done <<'END'
dovecot dovecot-imapd
/usr/lib/dovecot/lmtp dovecot-lmtpd
postfix postfix
gpg gnupg
gpg-agent gpg-agent
gpgsm gpgsm
/usr/lib/postgresql/15/bin/postgres postgresql-15
softhsm2-util softhsm2
openssl openssl
procmail procmail
mbsync isync
offlineimap offlineimap3
neomutt neomutt
mutt mutt
getmail getmail6
fetchmail fetchmail
imapfilter imapfilter
thunderbird thunderbird
msmtp msmtp
swaks swaks
sq sq
notmuch notmuch
newuidmap uidmap
bsd-mailx bsd-mailx
/usr/lib/git-core/git-send-email git-email
cron cron
fail2ban-regex fail2ban
gnome-keyring-daemon gnome-keyring
dbus-daemon dbus-daemon
systemd-analyze systemd
nsd nsd
unbound unbound
slapd slapd
zsh zsh
fish fish
man man-db
groff groff-base
END
# Libraries, for which there is no program to look for: git send-email needs one, swaks another for TLS.
perl -MMail::Address -e 1 2>/dev/null || missing="$missing libmailtools-perl"
perl -MNet::SSLeay -e 1 2>/dev/null || missing="$missing libnet-ssleay-perl"
if [ -n "$missing" ]; then
    echo "run: installing$missing" >&2
    # shellcheck disable=SC2086  # a list of words
    tests/packages.sh $missing
fi
# Mail servers beside Postfix, which are unpacked where they are tried, with what they need.
tests/debs.sh exim4-base exim4-daemon-light libidn12 libgnutls-dane0 libunbound8 opensmtpd libevent-2.1-7
examples/install.sh demo,test

checks=passed
check() {
    if output=$("$@" 2>&1); then return; fi
    checks=failed
    printf 'run: FAILED: %s\n%s\n' "$*" "$output" >&2
}
bin=.venv/bin
check $bin/ruff format --check .
check $bin/ruff check --quiet .
check $bin/mypy --no-error-summary
check $bin/lint-imports --no-logo
echo "run: checks of form, types and imports: $checks; now the tests" >&2

status=0
# One more than the two cores that are asked for: tests mostly wait for servers and clients.
$bin/python -m pytest -n 3 --dist loadscope "$@" || status=$?
[ $checks = passed ] || status=1
exit $status
