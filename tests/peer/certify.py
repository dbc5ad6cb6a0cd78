#!/usr/bin/env python3
"""Makes certificates that openssl has no words for: certify.py DIR <SPEC; a line of it is a certificate:
  NAME [by=NAME] [cn=TEXT] [san=DNS:a,IP:127.0.0.1] [use=server|client] [from=S] [to=S] [pad=BYTES] [key=own]
by is who signs it (itself).  A NAME that begins with "ca" is an authority.  from and to are seconds from now; TEXT has
Python's escapes, pad is the size of an extension that nobody knows.  Leaves share one key, but for key=own.
DIR gets NAME.pem (the chain, without its root) and NAME.key for each."""
import base64, ipaddress, os, shlex, subprocess, sys, time

ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
USES = {"server": "06082b06010505070301", "client": "06082b06010505070302"}


def der(tag, *parts):
    body = b"".join(parts)
    n = len(body)
    size = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (bytes([n]) if n < 128 else bytes([0x80 | len(size)]) + size) + body


def name(text):
    cn = der(0x0c, text.encode().decode("unicode_escape").encode())
    return der(0x30, der(0x31, der(0x30, bytes.fromhex("0603550403"), cn)))


def date(seconds):
    return der(0x18, time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds)).encode())


def extension(oid, value, critical=False):
    return der(0x30, bytes.fromhex(oid), der(1, b"\xff") if critical else b"", der(4, value))


def alternatives(text):
    names = []
    for one in text.split(","):
        kind, _, value = one.partition(":")
        names.append(der(0x87, ipaddress.ip_address(value).packed) if kind == "IP" else der(0x82, value.encode()))
    return extension("0603551d11", der(0x30, *names))


def openssl(*args, stdin=None):
    return subprocess.run(["openssl", *args], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          check=True).stdout


class Key:
    def __init__(self):
        self.pem = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        self.public = openssl("pkey", "-pubout", "-outform", "DER", stdin=self.pem)

    def sign(self, path, data):
        with open(path, "wb") as f:
            f.write(self.pem)
        os.chmod(path, 0o644)
        return openssl("dgst", "-sha256", "-sign", path, stdin=data)


def make(where, what, made, leaf_key):
    title, spec = what[0], dict(word.split("=", 1) for word in what[1:])
    ca = title.startswith("ca")
    key = Key() if ca or "key" in spec else leaf_key
    subject = name(spec.get("cn", title))
    issuer, signer, chain = made[spec["by"]] if "by" in spec else (subject, key, b"")
    extensions = [extension("0603551d0f", bytes.fromhex("03020106" if ca else "03020780"), True)]
    if ca:
        extensions.append(extension("0603551d13", bytes.fromhex("30030101ff"), True))
    else:
        extensions.append(extension("0603551d25", der(0x30, bytes.fromhex(USES[spec.get("use", "server")]))))
    if "san" in spec:
        extensions.append(alternatives(spec["san"]))
    if "pad" in spec:
        extensions.append(extension("06092b0601040186a37f01", os.urandom(int(spec["pad"]))))
    tbs = der(0x30, bytes.fromhex("a003020102"), der(2, b"\1" + os.urandom(8)), ALGORITHM, issuer,
              der(0x30, date(int(spec.get("from", -3600))), date(int(spec.get("to", 86400)))), subject, key.public,
              der(0xa3, der(0x30, *extensions)))
    signed = der(0x30, tbs, ALGORITHM, der(3, b"\0", signer.sign(f"{where}/{title}.key", tbs)))
    body = base64.encodebytes(signed).replace(b"\n", b"")
    lines = b"\n".join(body[at:at + 64] for at in range(0, len(body), 64))
    pem = b"-----BEGIN CERTIFICATE-----\n" + lines + b"\n-----END CERTIFICATE-----\n"
    with open(f"{where}/{title}.pem", "wb") as f:
        f.write(pem + chain)
    with open(f"{where}/{title}.key", "wb") as f:
        f.write(key.pem)
    made[title] = (subject, key, pem + chain if "by" in spec else b"")


if __name__ == "__main__":
    made, leaf_key = {}, Key()
    for line in sys.stdin:
        if words := shlex.split(line, comments=True):
            make(sys.argv[1], words, made, leaf_key)
