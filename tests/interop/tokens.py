"""Signs the tokens of tests/auth/tokens.json, with keys of its own: needs PyJWT and cryptography.

python3 tests/interop/tokens.py > tests/auth/tokens.json
"""

import json
import secrets
import sys

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

EXPIRES = 4102444800  # 2100-01-01
CLAIMS = {"sub": "alice", "iss": "https://issuer.example", "aud": ["other", "broker"], "exp": EXPIRES}


def private_key(algorithm):
    if algorithm.startswith("HS"):
        return secrets.token_hex(int(algorithm[2:]) // 8).encode()
    if algorithm.startswith(("RS", "PS")):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1() if algorithm == "ES256" else ec.SECP384R1())


def sample(algorithm):
    key = private_key(algorithm)
    if isinstance(key, bytes):
        public, file = key, key.decode()
    else:
        public = key.public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        file = public.public_bytes(serialization.Encoding.PEM, form).decode()
    jwk = json.loads(get_default_algorithms()[algorithm].to_jwk(public))
    jwk = {name: value for name, value in jwk.items() if name not in ("key_ops", "alg", "use")}
    token = jwt.encode(CLAIMS, key, algorithm=algorithm, headers={"kid": f"key-{algorithm}"})
    return {"algorithm": algorithm, "file": file, "jwk": jwk, "token": token}


names = [f"{family}{bits}" for family in ("HS", "RS", "PS") for bits in (256, 384, 512)]
json.dump([sample(name) for name in [*names, "ES256", "ES384", "EdDSA"]], sys.stdout, indent=1)
print()
