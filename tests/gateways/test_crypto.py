"""SM2, SM3, SM4 against the examples of their standards, and the forms in which platforms exchange them."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from gmalg import SM2
from hypothesis import given, settings
from hypothesis import strategies as st

from his_db.crypto.sm import sm3, sm4_decrypt, sm4_encrypt
from his_db.crypto.sm2 import DEFAULT_USER_ID, KeyUnusable, Sm2Private, Sm2Public

# GB/T 32918.5-2017, Annex A and C: key, k, signature and ciphertext on the recommended curve.
D = "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8"
X = "09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
Y = "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
K = 0x59276E27D506861A16680F3AD9C02DCCEF3CC1FA3CDBE4CE6D54B80DEAC1BC21
R = "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3"
S = "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"
C1 = (
    "0404EBFC718E8D1798620432268E77FEB6415E2EDE0E073C0F4F640ECD2E149A73E8"
    "58F9D81E5430A57B36DAAB8F950A3C64E6EE6A63094D99283AFF767E124DF0"
)
C2 = "21886CA989CA9C7D58087307CA93092D651EFA"
C3 = "59983C18F809E262923C53AEC295D30383B54E39D609D160AFCB1908D0BD8766"
KEY = Sm2Private.of_text(D)
OTHER = Sm2Private.of_text("1".rjust(64, "0"))


def fixed(bits: int) -> int:
    assert bits == 256
    return K


@given(key=st.binary(min_size=32, max_size=32), k=st.integers(1, 2**255), message=st.binary(max_size=100))
@settings(max_examples=20, deadline=None)
def test_it_is_the_librarys_sm2(key: bytes, k: int, message: bytes) -> None:
    """Ours has quicker inverses and is the same otherwise."""
    key = bytes([key[0] & 0x7F]) + key[1:-1] + b"\x01"
    ours = Sm2Private(key)
    assert ours.public.point == bytes(SM2().generate_pk(key))
    r, s = SM2(sk=key, pk=ours.public.point, uid=DEFAULT_USER_ID, rnd_fn=lambda _: k).sign(message)
    wanted = bytes(r).rjust(32, b"\0") + bytes(s).rjust(32, b"\0")
    assert ours.sign(message, random=lambda _: k) == wanted
    assert SM2(pk=ours.public.point, uid=DEFAULT_USER_ID).verify(message, wanted[:32], wanted[32:])
    assert ours.public.verify(message, wanted)


def test_sm3_examples() -> None:
    """GB/T 32905-2016, Annex A."""
    assert sm3(b"abc").hex() == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert sm3(b"abcd" * 16).hex() == "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"


def test_sm4_examples() -> None:
    """GB/T 32907-2016, Annex A: one block, and a million times the same."""
    key = block = bytes.fromhex("0123456789abcdeffedcba9876543210")
    assert sm4_encrypt(key, block)[:16].hex() == "681edf34d206965e86b3e94f536e4246"
    engine = Cipher(algorithms.SM4(key), modes.ECB()).encryptor()
    for _ in range(1_000_000):
        block = engine.update(block)
    assert block.hex() == "595298c7c6fd271f0402f804c33d3f66"


@given(plain=st.binary(max_size=100), iv=st.none() | st.binary(min_size=16, max_size=16))
def test_sm4_back_and_forth(plain: bytes, iv: bytes | None) -> None:
    key = b"0123456789abcdef"
    assert sm4_decrypt(key, sm4_encrypt(key, plain, iv), iv) == plain


@pytest.mark.parametrize(("key", "sealed"), [(b"short", b"x" * 16), (b"0123456789abcdef", b"x" * 15)])
def test_sm4_refuses(key: bytes, sealed: bytes) -> None:
    with pytest.raises(ValueError):
        sm4_decrypt(key, sealed)


def test_sm2_signature_example() -> None:
    assert KEY.public.point.hex().upper() == f"04{X}{Y}"
    assert KEY.sign(b"message digest", random=fixed).hex().upper() == R + S
    assert KEY.public.verify(b"message digest", bytes.fromhex(R + S))


def test_sm2_encryption_example() -> None:
    sealed = KEY.public.encrypt(b"encryption standard", random=fixed)
    assert sealed.hex().upper() == C1 + C3 + C2
    assert KEY.decrypt(bytes.fromhex(C1 + C3 + C2)) == b"encryption standard"


@pytest.mark.parametrize("c1c2c3", [False, True])
@pytest.mark.parametrize("prefix", [False, True])
def test_sm2_orders_and_prefixes(c1c2c3: bool, prefix: bool) -> None:
    sealed = KEY.public.encrypt(b"encryption standard", c1c2c3=c1c2c3, prefix=prefix, random=fixed)
    point = C1 if prefix else C1[2:]
    assert sealed.hex().upper() == point + (C2 + C3 if c1c2c3 else C3 + C2)
    assert KEY.decrypt(sealed, c1c2c3=c1c2c3, prefix=prefix) == b"encryption standard"
    with pytest.raises(ValueError):
        KEY.decrypt(sealed, c1c2c3=not c1c2c3, prefix=prefix)
    with pytest.raises(ValueError):
        KEY.decrypt(sealed[:-1], c1c2c3=c1c2c3, prefix=prefix)


@settings(max_examples=5, deadline=None)
@given(
    message=st.binary(min_size=1, max_size=40), der=st.booleans(), user=st.sampled_from([b"1234567812345678", b"APP1"])
)
def test_sm2_back_and_forth(message: bytes, der: bool, user: bytes) -> None:
    signature = KEY.sign(message, user_id=user, der=der)
    assert KEY.public.verify(message, signature, user_id=user, der=der)
    assert not KEY.public.verify(message + b"x", signature, user_id=user, der=der)
    assert not KEY.public.verify(message, signature, user_id=user + b"x", der=der)
    assert not KEY.public.verify(message, signature, user_id=user, der=not der)
    assert not OTHER.public.verify(message, signature, user_id=user, der=der)


@pytest.mark.parametrize("text", [f"04{X}{Y}", X + Y, base64.b64encode(bytes.fromhex(f"04{X}{Y}")).decode()])
def test_forms_of_public_keys(text: str) -> None:
    assert Sm2Public.of_text(text).point == KEY.public.point


@pytest.mark.parametrize(
    "text", [D, D.lower(), "00" + D, base64.b64encode(bytes.fromhex("00" + D)).decode(), f" {D}\n"]
)
def test_forms_of_private_keys(text: str) -> None:
    assert Sm2Private.of_text(text).hex == D.lower()


def test_a_new_key_may_begin_with_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("his_db.crypto.sm2.SM2.generate_keypair", lambda _: (b"\x05" * 31, b""))
    key = Sm2Private.generate()
    assert key.hex == "00" + "05" * 31
    assert key.public.verify(b"text", key.sign(b"text"))


@pytest.mark.parametrize("text", ["", "xyz", "00" * 32, "11" * 33, "?" * 44])
def test_private_keys_that_are_none(text: str) -> None:
    with pytest.raises(KeyUnusable) as caught:
        Sm2Private.of_text(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("text", ["", "00" * 64, f"04{Y}{X}", f"02{X}", "AAAA"])
def test_public_keys_that_are_none(text: str) -> None:
    with pytest.raises(KeyUnusable):
        Sm2Public.of_text(text)
