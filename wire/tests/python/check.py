"""Reads what Rust signed, by docs/bundle.md and other people's CBOR and COSE, and refuses it after any flipped bit.

Usage: check.py DIR, where DIR holds manifest.suit, directive.cose, keyset.cose and facts.json: the public keys, what the
objects must say, and nothing secret. Prints one line an object; exits with 1 and the reason when one is wrong.
"""

import hashlib
import json
import multiprocessing
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pycose.headers import KID, Algorithm, ContentType
from pycose.keys import EC2Key
from pycose.keys.curves import P256
from pycose.messages import Sign1Message, SignMessage

BLOCK = 16384
ARRAY = (list, tuple)  # cbor2 6 gives tuples inside a tag


class Refused(Exception):
    pass


def require(condition, reason):
    if not condition:
        raise Refused(reason)


def decode(data, what):
    """Deterministic CBOR, RFC 8949 §4.2.1: exactly one item, encoded as it must be."""
    try:
        value = cbor2.loads(data)
        require(cbor2.dumps(value, canonical=True) == data, f"{what}: not deterministic")
    except Refused:
        raise
    except Exception as error:  # whatever the decoder raises on damaged input
        raise Refused(f"{what}: {error}") from error
    return value


def fields(value, required, optional=(), what="map"):
    require(isinstance(value, Mapping), f"{what}: not a map")
    require(set(required) <= set(value) <= set(required) | set(optional), f"{what}: keys {list(value)}")
    require(all(type(key) is int for key in value), f"{what}: keys {list(value)}")
    return value


def is_uint(value, most=2**64 - 1):
    return type(value) is int and 0 <= value <= most


def is_bytes(value, length=None):
    return type(value) is bytes and length in (None, len(value))


def is_text(value, most):
    return type(value) is str and 1 <= len(value.encode()) <= most


def load_key(compressed):
    try:
        require(is_bytes(compressed, 33), "key: length")
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), compressed)
    except ValueError as error:
        raise Refused(f"key: {error}") from error


def key_hash(key):
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def cose_key(key):
    numbers = key.public_numbers()
    return EC2Key(crv=P256, x=numbers.x.to_bytes(32, "big"), y=numbers.y.to_bytes(32, "big"))


def check_headers(protected, unprotected, expected_protected, kid):
    require(decode(protected, "protected headers") == expected_protected, "protected headers")
    require(unprotected == {4: kid}, "unprotected headers")


def open_sign1(data, key, content_type, detached=None):
    """The payload of a COSE_Sign1 by this key; pycose parses and verifies."""
    item = decode(data, "COSE_Sign1")
    require(isinstance(item, cbor2.CBORTag) and item.tag == 18, "COSE_Sign1: tag")
    require(isinstance(item.value, ARRAY) and len(item.value) == 4, "COSE_Sign1: shape")
    protected, unprotected, payload, signature = item.value
    expected = {1: -7} if content_type is None else {1: -7, 3: content_type}
    require(is_bytes(protected) and is_bytes(signature, 64), "COSE_Sign1: types")
    check_headers(protected, unprotected, expected, key_hash(key))
    require(payload is None if detached is not None else is_bytes(payload), "COSE_Sign1: payload")
    message = Sign1Message.decode(data)
    require(message.phdr[Algorithm].identifier == -7 and message.uhdr[KID] == key_hash(key), "COSE_Sign1: pycose")
    message.key = cose_key(key)
    verified = message.verify_signature(detached) if detached is not None else message.verify_signature()
    require(verified, "COSE_Sign1: signature")
    return payload


def check_digest(data, wrapped, what):
    digest = decode(data, what)
    require(isinstance(digest, ARRAY) and len(digest) == 2 and digest[0] == -16, f"{what}: algorithm")
    require(wrapped is None or digest[1] == hashlib.sha256(wrapped).digest(), f"{what}: digest")
    require(is_bytes(digest[1], 32), f"{what}: length")
    return digest[1]


def name_based(namespace, name):
    """UUIDv8 of SHA-256, RFC 9562 §5.8 and B.2."""
    value = bytearray(hashlib.sha256(namespace + name).digest()[:16])
    value[6] = value[6] & 0x0F | 0x80
    value[8] = value[8] & 0x3F | 0x80
    return bytes(value)


def class_identifier(board):
    return name_based(name_based(uuid.NAMESPACE_DNS.bytes, b"holdfast"), board.encode())


def check_manifest(data, facts):
    require(len(data) <= 8192, "envelope: too long")
    envelope = decode(data, "envelope")
    require(isinstance(envelope, cbor2.CBORTag) and envelope.tag == 107, "envelope: tag")
    members = fields(envelope.value, {2, 3}, what="envelope")
    require(is_bytes(members[2]) and is_bytes(members[3]), "envelope: types")
    authentication = decode(members[2], "authentication")
    require(isinstance(authentication, ARRAY) and len(authentication) == 2, "authentication: shape")
    require(all(is_bytes(part) for part in authentication), "authentication: types")
    name = check_digest(authentication[0], cbor2.dumps(members[3]), "manifest")
    open_sign1(authentication[1], load_key(bytes.fromhex(facts["release"])), None, detached=authentication[0])

    manifest = fields(decode(members[3], "manifest"), {1, 2, 3, 7, 9}, what="manifest")
    require(manifest[1] == 1 and is_uint(manifest[2]), "manifest: version")
    require(decode(manifest[7], "validate") == [3, 15] and decode(manifest[9], "invoke") == [23, 2], "commands")
    common = fields(decode(manifest[3], "common"), {2, 4}, what="common")
    require(common[2] in ([[b"app"]], [[b"microvisor"]]), "components")
    shared = decode(common[4], "shared sequence")
    require(isinstance(shared, ARRAY) and len(shared) == 4, "shared sequence")
    require([shared[0], shared[2], shared[3]] == [20, 2, 15], "shared sequence")
    parameters = fields(shared[1], {2, 3, 14, -1}, what="parameters")
    area_digest = check_digest(parameters[3], None, "image")
    area_bytes = parameters[14]
    require(is_uint(area_bytes, 2**24) and area_bytes > 0 and area_bytes % BLOCK == 0, "image size")
    profile = check_profile(parameters[-1], area_bytes)
    require(parameters[2] == class_identifier(profile[2]), "class identifier")
    check_layers(profile[5], area_bytes, area_digest, [bytes.fromhex(layer) for layer in facts["layers"]])
    said = [name.hex(), common[2][0][0].decode(), profile[1], profile[2], profile[3], profile[10]]
    require(said == facts["manifest"], f"manifest says {said}")


def check_profile(value, area_bytes):
    profile = fields(value, set(range(1, 11)), what="profile")
    require(is_text(profile[1], 32) and is_text(profile[2], 32), "profile: names")
    require(is_uint(profile[3]) and is_uint(profile[10]), "profile: numbers")
    require(all(part.isdigit() for part in profile[4].split(".")) and profile[4].count(".") == 2, "profile: minimum")
    update = fields(profile[6], {1, 2, 3, 4, 5}, {6}, "update policy")
    require(all(is_uint(number, 2**32 - 1) for number in update.values()), "update policy")
    require(update[3] in (0, 1) and 1 <= update[4] <= 16, "update policy")
    require(len(profile[7]) <= 8 and all(is_bytes(key, 32) for key in profile[7]), "debug keys")
    crash = fields(profile[8], {1, 2, 3}, what="crash policy")
    require(all(is_uint(number, 2**32 - 1) for number in crash.values()) and crash[1] <= crash[2], "crash policy")
    require(is_uint(fields(profile[9], {1}, what="connectivity policy")[1], 2**32 - 1), "connectivity policy")
    require(1 <= len(profile[5]) <= 8, "layers")
    return profile


def check_layers(layers, area_bytes, area_digest, contents):
    area, end = bytearray(b"\xff" * area_bytes), 0
    require(len(layers) == len(contents), "layers: number")
    for (digest, size, destination, blocks), content in zip(layers, contents):
        require(destination % BLOCK == 0 and end <= destination, "layers: order")
        require(size == len(content) > 0 and destination + size <= area_bytes, "layers: range")
        require(digest == hashlib.sha256(content).digest(), "layers: digest")
        padded = [content[at : at + BLOCK].ljust(BLOCK, b"\xff") for at in range(0, size, BLOCK)]
        require(blocks == b"".join(hashlib.sha256(block).digest() for block in padded), "layers: blocks")
        end = destination + size
        area[destination:end] = content
    require(hashlib.sha256(area).digest() == area_digest, "area: digest")


def check_directive(data, facts):
    content_type = "application/holdfast-directive+cbor"
    payload = open_sign1(data, load_key(bytes.fromhex(facts["director"])), content_type)
    said = fields(decode(payload, "directive"), {1, 2, 3, 4, 5, 6, 7, 9}, what="directive")
    require(said[1] == 0 and is_bytes(said[3], 16) and "mqtt" in said[9], "directive: kind, nonce or sources")
    said = [said[2], said[3].hex(), said[4], said[5].hex(), said[6], said[7]]
    require(said == facts["directive"], f"directive says {said}")


def check_keyset(data, facts):
    require(len(data) <= 4096, "keyset: too long")
    item = decode(data, "COSE_Sign")
    require(isinstance(item, cbor2.CBORTag) and item.tag == 98, "COSE_Sign: tag")
    require(isinstance(item.value, ARRAY) and len(item.value) == 4, "COSE_Sign: shape")
    protected, unprotected, payload, signatures = item.value
    require(is_bytes(protected) and unprotected == {} and is_bytes(payload), "COSE_Sign: types")
    body = {3: "application/holdfast-keyset+cbor"}
    require(decode(protected, "body headers") == body, "COSE_Sign: body headers")
    keyset = fields(decode(payload, "keyset"), set(range(1, 9)), what="keyset")
    roots = [load_key(key) for key in keyset[3]]
    require(len(set(keyset[3])) == len(keyset[3]) and 1 <= keyset[4] <= len(roots) <= 4, "root keys")
    [load_key(key) for key in [keyset[6], *(release[0] for release in keyset[5])]]
    message = SignMessage.decode(data)
    require(message.phdr[ContentType] == body[3], "COSE_Sign: pycose")
    require(len(message.signers) == len(signatures), "COSE_Sign: pycose")
    by_hash = {key_hash(root): root for root in roots}
    signed_by = set()
    for signer, (signer_protected, signer_unprotected, signature) in zip(message.signers, signatures):
        kid = signer_unprotected.get(4)
        if kid not in by_hash:
            continue
        check_headers(signer_protected, signer_unprotected, {1: -7}, kid)
        require(is_bytes(signature, 64), "COSE_Sign: signature")
        require(signer.uhdr[KID] == kid, "COSE_Sign: pycose")
        signer.key = cose_key(by_hash[kid])
        if signer.verify_signature():
            signed_by.add(kid)
    require(len(signed_by) >= keyset[4], "keyset: threshold")
    said = [keyset[1], keyset[2], [root.hex() for root in keyset[3]], keyset[4], keyset[6].hex()]
    require(said == facts["keyset"], f"keyset says {said}")


CHECKS = {"manifest.suit": check_manifest, "directive.cose": check_directive, "keyset.cose": check_keyset}


def passes(name, data, facts):
    try:
        CHECKS[name](data, facts)
        return True
    except Refused:
        return False
    except Exception:  # a damaged object may trip anything; it is refused all the same
        return False


def flip(job):
    name, data, facts, bits = job
    wrong = []
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        if passes(name, bytes(damaged), facts):
            wrong.append(bit)
    return wrong


def main(directory):
    facts = json.loads((directory / "facts.json").read_text())
    with multiprocessing.Pool() as pool:
        for name, check in CHECKS.items():
            data = (directory / name).read_bytes()
            check(data, facts)
            bits = len(data) * 8
            jobs = [(name, data, facts, range(start, min(start + 256, bits))) for start in range(0, bits, 256)]
            passed = [bit for wrong in pool.imap_unordered(flip, jobs) for bit in wrong]
            require(not passed, f"{name}: accepted with bits {passed} flipped")
            print(f"{name}: {len(data)} bytes verified, refused with each of {bits} bits flipped")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Refused as refused:
        sys.exit(f"refused: {refused}")
