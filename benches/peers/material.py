"""Keys, tokens, requests and policies: made once, kept under the cache folder, never in the repository."""

import base64
import datetime
import ipaddress
import json
import os
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

ISSUER = "https://issuer.bench.example.com"
AUDIENCE = "bench"
CALLERS = 1000
PATHS = 200
TEAMS = 5
# More than any proxy here remembers, so that a token has been forgotten when its turn comes again.
UNSEEN = 30000
KEPT_DAYS = 20


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Tokens:
    """An issuer: one ES256 key, and what it signs."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())

    def key_set(self):
        point = self.key.public_key().public_numbers()
        return {"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "bench",
                          "x": base64url(point.x.to_bytes(32, "big")), "y": base64url(point.y.to_bytes(32, "big"))}]}

    def public_pem(self):
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def token(self, number, *, another_signature=False):
        """For caller `number`; with the signature of something else, it is a bad one."""
        now = int(time.time())
        part = lambda value: base64url(json.dumps(value, separators=(",", ":")).encode())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": f"employee-{number:05}", "role": "reader",
                  "iat": now, "nbf": now - 60, "exp": now + 2 * KEPT_DAYS * 86400,
                  "jti": f"{number * 2654435761 % 2**64:016x}", "email": f"employee-{number:05}@bench.example.com"}
        text = part({"alg": "ES256", "typ": "JWT", "kid": "bench"}) + "." + part(claims)
        signed = text + "!" if another_signature else text
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return text + "." + base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def server_certificate(folder):
    """A certificate that signs itself, for 127.0.0.1; haproxy wants it in one file with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
                   .not_valid_after(now + datetime.timedelta(days=2 * KEPT_DAYS))
                   .add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, hashes.SHA256()))
    cert = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                               serialization.NoEncryption())
    for name, data in (("cert.pem", cert), ("key.pem", secret), ("both.pem", cert + secret)):
        write(folder, name, data)


def path(number, leaf="items"):
    return f"/orders/{10000 + number % PATHS}/{leaf}"


def policy(rows):
    """`rows` p-rows, five at least, and a g-row for each caller: five teams, each with a row for each of 200 paths, in turns
    as a pattern and as the path itself. With fewer rows the last of each team is for all paths that have none; what is
    beyond 1,000 is about other paths."""
    each = min(PATHS, max(rows // TEAMS, 1))
    shapes = [f"/orders/{10000 + number}/*" if number % 2 == 0 else path(number) for number in range(each)]
    if each < PATHS:
        shapes[-1] = "/orders/*"
    lines = [f"p, role:team{team}, app, {shape}, GET|HEAD|POST, allow" for shape in shapes for team in range(TEAMS)]
    for number in range(len(lines), rows):
        lines.append(f"p, role:other{number % 50}, app, /archive/{number}/*, GET|HEAD, allow")
    lines += [f"g, user:employee-{number:05}, role:team{number % TEAMS}" for number in range(CALLERS)]
    return "\n".join(lines) + "\n"


def requests(tokens, method="GET", leaf="items"):
    """Lines of method, path and token. Patterns, which let any leaf through, are at even numbers."""
    step = 1 if leaf == "items" else 2
    return "".join(f"{method} {path(number * step, leaf)} {token}\n" for number, token in enumerate(tokens))


def write(folder, name, data):
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())


def read(folder, name):
    with open(os.path.join(folder, name)) as file:
        return file.read()


def prepare(folder):
    """Makes it all, unless it is there and the tokens are good for long enough."""
    done = os.path.join(folder, "done")
    if os.path.exists(done) and time.time() - os.path.getmtime(done) < KEPT_DAYS * 86400:
        return
    print(f"making keys and {CALLERS + UNSEEN} tokens in {folder}", flush=True)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    issuer = Tokens()
    write(folder, "jwks.json", json.dumps(issuer.key_set()))
    write(folder, "issuer.pem", issuer.public_pem())
    server_certificate(folder)
    tokens = [issuer.token(number) for number in range(CALLERS)]
    write(folder, "bad.jwt", issuer.token(0, another_signature=True))
    write(folder, "good.jwt", tokens[0])
    write(folder, "many", requests(tokens))
    write(folder, "tokens", "\n".join(tokens))
    write(folder, "post", requests(tokens, method="POST", leaf="up"))
    for size in ("64k", "1m"):
        write(folder, size, requests(tokens, leaf=size))
    # Of the same callers, since only those have rows.
    unseen = (issuer.token(number % CALLERS) for number in range(UNSEEN))
    write(folder, "unseen", requests(unseen))
    write(folder, "done", "")
