"""Encryption to one key that the keystore has prepared, by a process that must not import the keystore.

Nothing is judged here: whoever calls knows that the key may be used now, by what `Keystore` said of it.

Standards: RFC 9580 sections 10.3 (composition of messages) and 5.1 (which key a message is encrypted to).
Security: the product is looked at: it names the key that was meant, whatever became of the octets of the key.
"""

from io import BytesIO

from openpgp.armor import BlockType, write
from openpgp.composed import MessageBuilder, SignedPublicKey

from keystore.errors import KeyRefused

_SESSION_KEY = 0xC1
_ENCRYPTED_DATA = 0xD2
"""Packet tags 1 and 18 in the current format of packet headers, which the engine writes."""


def encrypted(octets: bytes, key: bytes, key_id: bytes) -> bytes:
    """Armored with CRLF, not signed: AES-256 with MDC, as `openpgp.encrypt` does it for version 4.

    `key` is the primary key of a certificate, alone or with the one subkey that is encrypted to; `key_id` (8
    octets) that of the latter. Raises KeyRefused.
    """
    try:
        whole = SignedPublicKey.from_bytes(key)
        builder = MessageBuilder.from_bytes("", octets)
        builder.seipd_v1("aes256")
        builder.encrypt_to_key(whole.public_subkeys[0] if whole.public_subkeys else whole)
        packets = builder.to_vec()
        armored = BytesIO()
        write(packets, BlockType.Message, armored, include_checksum=True)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:  # noqa: BLE001  # a panic of the engine derives from BaseException
        raise KeyRefused("the prepared key cannot be encrypted to") from None
    if not is_for(packets, key_id):
        raise KeyRefused("the message was not encrypted to the prepared key")
    return armored.getvalue().replace(b"\n", b"\r\n")


def is_for(packets: bytes, key_id: bytes) -> bool:
    """Whether a message (binary) can be opened by the key with this ID, and by nothing else."""
    if len(packets) < 16 or packets[0] != _SESSION_KEY or packets[1] >= 224:
        return False
    if packets[1] < 192:
        start, length = 2, packets[1]
    else:
        start, length = 3, ((packets[1] - 192) << 8) + packets[2] + 192
    data = packets[start + length : start + length + 1]
    return packets[start : start + 9] == b"\x03" + key_id and data == bytes([_ENCRYPTED_DATA])
