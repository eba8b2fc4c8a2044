"""Writes ../frozen/{manifest.suit,directive.cose,keyset.cose}.hex: our signed objects as cbor2 and pycose make them from
docs/bundle.md, so that the decoder in Rust is held to bytes that Rust did not write. Run by hand when the format changes;
never for a released version, whose bytes stay as they are.
"""

import hashlib
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from pycose.headers import KID, Algorithm, ContentType
from pycose.algorithms import Es256
from pycose.keys import EC2Key
from pycose.keys.curves import P256
from pycose.messages import Sign1Message, SignMessage
from pycose.messages.signer import CoseSignature

from check import BLOCK, class_identifier, cose_key, key_hash
from cryptography.hazmat.primitives import serialization

FROZEN = Path(__file__).parent.parent / "frozen"


def dumps(value):
    return cbor2.dumps(value, canonical=True)


def key(seed):
    """The private key whose scalar is this byte, 32 times; as the Rust tests make theirs."""
    return ec.derive_private_key(int.from_bytes(bytes([seed]) * 32, "big"), ec.SECP256R1())


def signing_key(private):
    public = cose_key(private.public_key())
    scalar = private.private_numbers().private_value.to_bytes(32, "big")
    return EC2Key(crv=P256, x=public.x, y=public.y, d=scalar)


def compressed(private):
    form = serialization.PublicFormat.CompressedPoint
    return private.public_key().public_bytes(serialization.Encoding.X962, form)


def sign1(private, content_type, payload, detached):
    headers = {Algorithm: Es256} | ({ContentType: content_type} if content_type else {})
    kid = {KID: key_hash(private.public_key())}
    message = Sign1Message(phdr=headers, uhdr=kid, payload=b"" if detached else payload, key=signing_key(private))
    if detached:
        message.payload = None
        return message.encode(detached_payload=payload)
    return message.encode()


def suit_digest(data):
    return dumps([-16, hashlib.sha256(data).digest()])


def layer(content, destination):
    blocks = [content[at : at + BLOCK].ljust(BLOCK, b"\xff") for at in range(0, len(content), BLOCK)]
    hashes = b"".join(hashlib.sha256(block).digest() for block in blocks)
    return [hashlib.sha256(content).digest(), len(content), destination, hashes]


def manifest():
    contents = [(bytes([0xA5]) * 20000, 0), (bytes(at % 256 for at in range(40000)), 49152)]
    area = bytearray(b"\xff" * 262144)
    for content, destination in contents:
        area[destination : destination + len(content)] = content
    profile = {
        1: "1.2.3",
        2: "host",
        3: 7,
        4: "0.1.0",
        5: [layer(content, destination) for content, destination in contents],
        6: {1: 60, 2: 10, 3: 0, 4: 3, 5: 3600, 6: 86400},
        7: [bytes([0xDB]) * 32],
        8: {1: 500, 2: 60000, 3: 300},
        9: {1: 900},
        10: 1790000000,
    }
    parameters = {2: class_identifier("host"), 3: suit_digest(bytes(area)), 14: len(area), -1: profile}
    common = {2: [[b"app"]], 4: dumps([20, parameters, 2, 15])}
    manifest = dumps({1: 1, 2: 5, 3: dumps(common), 7: dumps([3, 15]), 9: dumps([23, 2])})
    signed = suit_digest(dumps(manifest))
    authentication = dumps([signed, sign1(key(10), None, signed, detached=True)])
    return dumps(cbor2.CBORTag(107, {2: authentication, 3: manifest}))


def directive():
    payload = {
        1: 0,
        2: "dv" + "d1" * 16,
        3: bytes([0x4E]) * 16,
        4: 1790000000,
        5: bytes([0x3D]) * 32,
        6: "dp" + "d2" * 16,
        7: "app",
        9: ["mqtt"],
    }
    return sign1(key(20), "application/holdfast-directive+cbor", dumps(payload), detached=False)


def keyset():
    roots = [key(30), key(31)]
    payload = {
        1: "tn" + "71" * 16,
        2: 1,
        3: [compressed(root) for root in roots],
        4: 2,
        5: [[compressed(key(10)), None, None]],
        6: compressed(key(20)),
        7: None,
        8: [b"certificate"],
    }
    signers = [
        CoseSignature(phdr={Algorithm: Es256}, uhdr={KID: key_hash(root.public_key())}, key=signing_key(root))
        for root in roots
    ]
    headers = {ContentType: "application/holdfast-keyset+cbor"}
    return SignMessage(phdr=headers, uhdr={}, payload=dumps(payload), signers=signers).encode()


if __name__ == "__main__":
    for name, data in [("manifest.suit", manifest()), ("directive.cose", directive()), ("keyset.cose", keyset())]:
        digits = data.hex()
        lines = [digits[at : at + 100] for at in range(0, len(digits), 100)]
        (FROZEN / f"{name}.hex").write_text("\n".join(lines) + "\n")
