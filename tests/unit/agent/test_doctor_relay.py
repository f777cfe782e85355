"""``his160 doctor`` on certificates that are not good, and on relays that cannot be reached or do not want us."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.bench_pki import BenchAuthority, KeyPair, make_authority
from agent.doctor.areas import relay as relay_area
from agent.handler import Identity
from sync.clock import utc_now
from tests.bounds import PATIENCE
from tests.doctor import HEAD, SQLITE, Patient
from tests.proxies import PASSWORD, USER
from tests.proxies import proxy as running_proxy

SITE = Identity("site", "440305160")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> BenchAuthority:
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> BenchAuthority:
    return make_authority(tmp_path_factory.mktemp("other"), "another CA")


@pytest.fixture(scope="module")
def pair(authority: BenchAuthority) -> KeyPair:
    return authority.issue("agent", SITE)


def dialling(folder: Path, pair: KeyPair, ca: Path, address: str = "127.0.0.1:1", more: str = "") -> Patient:
    relay = f"""
[relay]
enabled = true
addresses = ["{address}"]
certificate = "{pair.certificate.as_posix()}"
key = "{pair.key.as_posix()}"
ca = "{ca.as_posix()}"
{more}
"""
    patient = Patient(folder)
    patient.write(HEAD.replace("pull", "relay") + SQLITE + relay)
    return patient


# -- certificates --------------------------------------------------------------------------------------------


def test_a_good_certificate(tmp_path: Path, authority: BenchAuthority, pair: KeyPair) -> None:
    patient = dialling(tmp_path, pair, authority.path)
    seen = patient.look("certificates")
    assert seen.found == []
    assert "is good for 36" in seen.facts
    for days, errors, notes in ((340, [], ["H729", "H729"]), (400, ["H729", "H729"], []), (-2, ["H729", "H729"], [])):
        later = patient.look("certificates", clock=lambda days=days: utc_now() + timedelta(days=days))
        assert (later.errors, later.notes) == (errors, notes)  # ours, and the authority's


def test_an_expired_certificate_among_good_ones(tmp_path: Path, authority: BenchAuthority) -> None:
    old = authority.issue("old", SITE, lifetime=timedelta(minutes=-30))
    seen = dialling(tmp_path, old, authority.path).look("certificates")
    assert seen.errors == ["H729"]
    assert "old.pem" in seen.found[0].en
    assert seen.code == 1


def test_keys(tmp_path: Path, authority: BenchAuthority, pair: KeyPair) -> None:
    other = authority.issue("other", SITE)
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    for path in (other.key, locked, pair.certificate):
        assert dialling(tmp_path, KeyPair(pair.certificate, path), authority.path).look("certificates").errors == [
            "H730"
        ]


def test_names(tmp_path: Path, authority: BenchAuthority, pair: KeyPair) -> None:
    for identity in (None, Identity("site", "999"), Identity("operator", "x")):
        named = authority.issue("named", identity)
        assert dialling(tmp_path, named, authority.path).look("certificates").errors == ["H732"]
    server = f"""
[server]
enabled = true
listen = "10.1.2.3:50160"
certificate = "{pair.certificate.as_posix()}"
key = "{pair.key.as_posix()}"
client_ca = "{authority.path.as_posix()}"
"""
    assert Patient(tmp_path, server=server).look("certificates").notes == ["H732"]
    assert Patient(tmp_path, server=server.replace("10.1.2.3", "0.0.0.0")).look("certificates").found == []


def test_chains(tmp_path: Path, authority: BenchAuthority, stranger: BenchAuthority, pair: KeyPair) -> None:
    own = pair.certificate.read_bytes()
    chain = tmp_path / "chain.pem"
    for more, errors in ((authority, []), (stranger, ["H731"])):
        chain.write_bytes(own + more.path.read_bytes())
        seen = dialling(tmp_path, KeyPair(chain, pair.key), authority.path).look("certificates")
        assert seen.errors == errors
    assert dialling(tmp_path, pair, pair.certificate).look("certificates").errors == ["H731"]  # no authority at all
    chain.write_bytes(b"no certificate")
    assert dialling(tmp_path, KeyPair(chain, pair.key), authority.path).look("certificates").errors == ["H729"]
    assert x509.load_pem_x509_certificate(own)


# -- the relay -----------------------------------------------------------------------------------------------


@contextmanager
def relay(authority: BenchAuthority, trusted: BenchAuthority) -> Iterator[str]:
    """A gRPC server with a certificate of ``authority`` that takes callers of ``trusted``; its address."""
    pair = authority.issue("relay", Identity("relay", "bench"))
    server = grpc.server(ThreadPoolExecutor(1))
    credentials = grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.certificate.read_bytes())], trusted.path.read_bytes(), require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(PATIENCE)


def test_a_good_relay_and_a_wrong_name(tmp_path: Path, authority: BenchAuthority, pair: KeyPair) -> None:
    with relay(authority, authority) as address:
        seen = dialling(tmp_path, pair, authority.path, address).look("relay")
        assert seen.found == []
        assert "TLS with both certificates is good" in seen.facts
        seen = dialling(tmp_path, pair, authority.path, address, 'authority = "relay.example.com"').look("relay")
        assert seen.errors == ["H735"]
        assert "relay.example.com" in seen.found[0].en


def test_a_relay_of_another_authority(
    tmp_path: Path, authority: BenchAuthority, stranger: BenchAuthority, pair: KeyPair
) -> None:
    with relay(stranger, authority) as address:
        seen = dialling(tmp_path, pair, authority.path, address).look("relay")
    assert seen.errors == ["H735"]
    assert "untrusted" in seen.found[0].en


def test_a_relay_that_does_not_take_our_certificate(
    tmp_path: Path, authority: BenchAuthority, stranger: BenchAuthority, pair: KeyPair
) -> None:
    with relay(authority, stranger) as address:
        seen = dialling(tmp_path, pair, authority.path, address).look("relay")
    assert seen.errors == ["H735"]
    assert "refused" in seen.found[0].en


def test_nobody_listens_nobody_speaks_no_such_name(
    tmp_path: Path, authority: BenchAuthority, pair: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dialling(tmp_path, pair, authority.path).look("relay").errors == ["H734"]
    monkeypatch.setattr(relay_area, "_LIMIT", timedelta(milliseconds=200))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(5)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        seen = dialling(tmp_path, pair, authority.path, address).look("relay")
        assert seen.errors == ["H734"]
        assert "no response" in seen.found[0].en
    seen = dialling(tmp_path, pair, authority.path, "relay.invalid:443").look("relay")
    assert seen.errors == ["H734"]


def test_what_speaks_but_no_tls(tmp_path: Path, authority: BenchAuthority, pair: KeyPair) -> None:
    """A firewall that answers for the relay."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)

        def answer() -> None:
            wire, _ = listener.accept()
            with wire:
                wire.recv(1000)
                wire.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        seen = dialling(tmp_path, pair, authority.path, f"127.0.0.1:{listener.getsockname()[1]}").look("relay")
        thread.join(PATIENCE)
    assert seen.errors == ["H735"]


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_through_a_proxy(kind: str, tmp_path: Path, authority: BenchAuthority, pair: KeyPair) -> None:
    import asyncio

    async with running_proxy(kind) as proxy:
        with relay(authority, authority) as address:
            more = f'proxy = "{proxy.url}"\nproxy_user = "{USER}"\nproxy_password = "@env:PROXY"\n'
            patient = dialling(tmp_path, pair, authority.path, address, more)
            seen = await asyncio.to_thread(patient.look, "relay", environ={"PROXY": PASSWORD})
            assert seen.found == []
            assert proxy.asked
            seen = await asyncio.to_thread(patient.look, "relay", environ={"PROXY": "wrong"})
            assert seen.errors == ["H734"]
            assert "[relay] proxy" in seen.found[0].fix_zh
            assert PASSWORD not in str(seen.found)
