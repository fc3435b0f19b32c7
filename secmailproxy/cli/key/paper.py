"""`secmailproxy key paper`: a page to print with an own key, and back from what is typed or scanned."""

from __future__ import annotations

import html
import io
from pathlib import Path

import click

from keystore import paper
from keystore.backup import Passphrase as Opens
from keystore.backup import as_code, new_code
from keystore.errors import KeyRefused
from keystore.model import Certificate, Holder, Scheme
from secmailproxy.cli.context import Passphrase, print_json, read_input
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, key_passphrase, only, opened, store_passphrase
from secmailproxy.errors import UsageError

_LINES_IN_CODE = 40
"""Of a page in one QR code: so many letters as cameras still read."""
_MOST_OCTETS = 12_000
_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Paper key</title><style>
body {{ font-family: sans-serif; margin: 2em; }} pre {{ font-size: 10pt; }}
svg {{ width: 9cm; height: auto; }}
.code {{ border: 1px solid; padding: 1em; }}
</style></head><body>
<h1>Secret key for mail</h1>
<p>{names}<br>Fingerprint <code>{fingerprint}</code><br>{form}, under a passphrase</p>
<p class="code">{opens}</p>
<p>To restore: type the lines into a file, or scan the codes into it, in any order, with a line end after
each; then <code>secmailproxy key paper --read FILE</code>. Case and blanks do not matter; each line ends in
letters that check it.</p>
<pre>
{lines}
</pre>
{codes}
</body></html>
"""
_BY_HAND = "Code, to be written here by hand: ________________________________________"
_KNOWN = "The passphrase is the one that you chose. It is not on this page."


@click.command(name="paper")
@click.argument("query", nargs=-1, metavar="QUERY...")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The page, HTML."
)
@click.option("--read", "source", metavar="FILE|-", help="Take in a key from its typed or scanned lines.")
@json_option
@key_passphrase
@store_passphrase
def command(
    query: tuple[str, ...],
    output: Path | None,
    source: str | None,
    as_json: bool,
    passphrase: Passphrase,
    secrets_passphrase: Passphrase,
) -> None:
    """Write a page with your secret key to print and keep, or take a key in from such a page.

    The key on it is under a code that is shown once, for you to write onto the paper, or under a passphrase
    that you give. So neither the file nor the printer ever has it in clear.
    """
    if source is not None:
        if query or output is not None:
            raise UsageError("--read takes a key in; it goes without QUERY and --output.")
        _read(source, passphrase, secrets_passphrase, as_json=as_json)
        return
    if output is None:
        raise UsageError("Say with --output where the page is to be written, such as --output key.html.")
    _write(query, output, passphrase, secrets_passphrase, as_json=as_json)


def _write(
    query: tuple[str, ...], output: Path, passphrase: Passphrase, secrets: Passphrase, *, as_json: bool
) -> None:
    from keystore.files import replace_file

    with opened(secrets) as keystore:
        certificate = only(keystore, query)
        if certificate.holder is not Holder.OWN:
            raise KeyRefused(_not_here(certificate))
        opens = Opens(passphrase()) if passphrase.given else new_code()
        octets = keystore.export(certificate.fingerprint, secret=True, passphrase=opens.normal)
    if certificate.scheme is Scheme.OPENPGP:
        from keystore.openpgp.packet import binary

        octets = binary(octets, "PRIVATE KEY BLOCK")
    if len(octets) > _MOST_OCTETS:
        raise KeyRefused(f"this key has {len(octets)} octets, too many for paper: use `key backup`")
    try:
        replace_file(output, _page(certificate, paper.lines(octets), is_code=opens.is_code).encode())
    except OSError as error:
        raise UsageError(f"Cannot write {output}: {error.strerror}.") from None
    code = opens.text if opens.is_code else None
    if as_json:
        values = {"fingerprint": certificate.fingerprint, "file": str(output), "code": code}
        print_json({"version": text.JSON_VERSION, **values})
        return
    click.echo(f"{output}: print it, then delete it")
    if code is not None:
        click.echo(f"Its code, to be written onto the paper; it is shown only now: {code}")


def _not_here(certificate: Certificate) -> str:
    if certificate.holder is Holder.GNUPG:
        return f"GnuPG holds the secret key of {certificate.fingerprint}, and paperkey prints it"
    return f"the secret key of {certificate.fingerprint} is not in this keystore"


def _page(certificate: Certificate, lines: list[str], *, is_code: bool) -> str:
    import segno  # many commands have no use for it

    codes = []
    for at in range(0, len(lines), _LINES_IN_CODE):
        # Letters of the code's own alphabet, which has no line end.
        content = "/".join(" ".join(line.split()) for line in lines[at : at + _LINES_IN_CODE])
        drawn = io.BytesIO()
        segno.make(content, error="l", micro=False).save(
            drawn, kind="svg", xmldecl=False, svgns=False, scale=3
        )
        codes.append(drawn.getvalue().decode("utf-8"))
    return _PAGE.format(
        names="<br>".join(html.escape(text.plain(one)) for one in certificate.user_ids),
        fingerprint=certificate.fingerprint,
        form="OpenPGP" if certificate.scheme is Scheme.OPENPGP else "PKCS #12",
        opens=_BY_HAND if is_code else _KNOWN,
        lines="\n".join(lines),
        codes="\n".join(codes),
    )


def _read(source: str, passphrase: Passphrase, secrets: Passphrase, *, as_json: bool) -> None:
    octets = paper.octets_of(read_input(source).decode("utf-8", "replace"))
    passphrase.prompt = "Code or passphrase of the page"
    with opened(secrets) as keystore:
        results = keystore.import_keys(octets, source="paper", passphrase=lambda: as_code(passphrase()))
    if as_json:
        values = [text.result_values("paper", one) for one in results]
        print_json({"version": text.JSON_VERSION, "results": values})
    else:
        click.echo(text.results_text([("paper", one) for one in results]))
    if not any(one.secret for one in results):
        raise KeyRefused("the code or passphrase does not open the key of this page")
