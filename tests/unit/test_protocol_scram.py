"""SCRAM against the scramp package as an independent peer; the exchanges themselves are among the vectors."""

import base64
import hmac

import pytest
from scramp import ScramClient, ScramException, ScramMechanism

from protocol.scram import (
    ITERATIONS_MIN,
    SALT_BYTES,
    AuthenticationFailed,
    ClientExchange,
    SaltedKey,
    ServerExchange,
    credentials,
    decoy_credentials,
    salted_key,
)

SECRET = "Zq7-vNfK3mPw9sXt2LdYhR5b"
SALT = bytes(range(16))
KNOWN = credentials(SECRET, SALT, ITERATIONS_MIN)


def run(client: ClientExchange, server: ServerExchange | None = None) -> None:
    server = server or ServerExchange(client.client_first)
    client.verify(server.verify(client.respond(server.challenge(KNOWN, "server-nonce"))))


def test_own_client_against_scramp_server() -> None:
    mechanism = ScramMechanism("SCRAM-SHA-256")
    info = mechanism.make_auth_info(SECRET, iteration_count=ITERATIONS_MIN, salt=SALT)
    server = mechanism.make_server({"T-0001": info}.__getitem__)
    client = ClientExchange("T-0001", SECRET, "client-nonce")
    server.set_client_first(client.client_first)
    server.set_client_final(client.respond(server.get_server_first()))
    client.verify(server.get_server_final())
    assert info == (KNOWN.salt, KNOWN.stored_key, KNOWN.server_key, KNOWN.iterations)


def test_own_server_against_scramp_client() -> None:
    client = ScramClient(["SCRAM-SHA-256"], "T-0001", SECRET)
    server = ServerExchange(client.get_client_first())
    assert server.username == "T-0001"
    client.set_server_first(server.challenge(KNOWN, "server-nonce"))
    client.set_server_final(server.verify(client.get_client_final()))


def test_scramp_client_with_a_wrong_secret_is_refused() -> None:
    client = ScramClient(["SCRAM-SHA-256"], "T-0001", SECRET + "x")
    server = ServerExchange(client.get_client_first())
    client.set_server_first(server.challenge(KNOWN, "server-nonce"))
    with pytest.raises(AuthenticationFailed):
        server.verify(client.get_client_final())


def test_scramp_client_finds_out_an_impostor() -> None:
    client = ScramClient(["SCRAM-SHA-256"], "T-0001", SECRET)
    server = ServerExchange(client.get_client_first())
    client.set_server_first(server.challenge(KNOWN, "server-nonce"))
    client.get_client_final()
    with pytest.raises(ScramException):
        client.set_server_final("v=" + "A" * 43 + "=")


def test_own_client_finds_out_a_server_with_other_credentials() -> None:
    client = ClientExchange("T-0001", SECRET, "client-nonce")
    server = ServerExchange(client.client_first)
    stranger = credentials("another secret", SALT, ITERATIONS_MIN)
    final = client.respond(server.challenge(stranger, "server-nonce"))
    with pytest.raises(AuthenticationFailed):
        server.verify(final)


def test_a_salted_key_is_used_again_only_for_the_same_salt_and_iterations() -> None:
    first = ClientExchange("T-0001", SECRET, "client-nonce")
    run(first)
    assert first.salted == salted_key(SECRET, SALT, ITERATIONS_MIN)
    poisoned = SaltedKey(SALT, ITERATIONS_MIN, bytes(32))
    with pytest.raises(AuthenticationFailed):
        run(ClientExchange("T-0001", SECRET, "client-nonce", poisoned))
    for stale in (SaltedKey(b"x" * 16, ITERATIONS_MIN, bytes(32)), SaltedKey(SALT, 5_000, bytes(32))):
        run(ClientExchange("T-0001", SECRET, "client-nonce", stale))


def test_decoys_are_stable_different_and_never_fit() -> None:
    one = decoy_credentials("T-9999", b"server secret", ITERATIONS_MIN)
    assert one == decoy_credentials("T-9999", b"server secret", ITERATIONS_MIN)
    assert one.salt != decoy_credentials("T-9998", b"server secret", ITERATIONS_MIN).salt
    assert one.salt != decoy_credentials("T-9999", b"other secret", ITERATIONS_MIN).salt
    assert (len(one.salt), len(one.stored_key), len(one.server_key)) == (SALT_BYTES, 32, 32)
    client = ClientExchange("T-9999", SECRET, "client-nonce")
    server = ServerExchange(client.client_first)
    final = client.respond(server.challenge(one, "server-nonce"))
    with pytest.raises(AuthenticationFailed) as unknown:
        server.verify(final)
    other = ClientExchange("T-0001", "wrong secret", "client-nonce")
    server = ServerExchange(other.client_first)
    with pytest.raises(AuthenticationFailed) as wrong:
        server.verify(other.respond(server.challenge(KNOWN, "server-nonce")))
    assert str(unknown.value) == str(wrong.value)


def test_a_proof_is_worth_nothing_under_another_server_nonce() -> None:
    client = ClientExchange("T-0001", SECRET, "client-nonce")
    first = ServerExchange(client.client_first)
    final = client.respond(first.challenge(KNOWN, "server-nonce-1"))
    first.verify(final)
    second = ServerExchange(client.client_first)
    second.challenge(KNOWN, "server-nonce-2")
    with pytest.raises(AuthenticationFailed):
        second.verify(final)
    with pytest.raises(AuthenticationFailed):
        second.verify(final.replace("server-nonce-1", "server-nonce-2"))


def test_even_who_knows_the_secret_must_sign_this_nonce() -> None:
    client = ClientExchange("T-0001", SECRET, "client-nonce")
    server = ServerExchange(client.client_first)
    server_first = server.challenge(KNOWN, "server-nonce")
    without_proof = "c=biws,r=client-nonceOTHER"
    message = f"n=T-0001,r=client-nonce,{server_first},{without_proof}".encode()
    client_key = hmac.digest(salted_key(SECRET, SALT, ITERATIONS_MIN).key, b"Client Key", "sha256")
    signature = hmac.digest(KNOWN.stored_key, message, "sha256")
    proof = bytes(left ^ right for left, right in zip(client_key, signature, strict=True))
    with pytest.raises(AuthenticationFailed):
        server.verify(f"{without_proof},p={base64.b64encode(proof).decode()}")


def test_no_secret_is_shown() -> None:
    assert "stored_key" not in repr(KNOWN)
    assert "key=" not in repr(salted_key(SECRET, SALT, ITERATIONS_MIN))


@pytest.mark.parametrize("wrong", ["", "a,b", "a b", "n\u00f6nce", "a\n"])
def test_nonces_and_names_are_checked_where_they_come_in(wrong: str) -> None:
    with pytest.raises(ValueError, match="nonce"):
        ClientExchange("T-0001", SECRET, wrong)
    with pytest.raises(ValueError, match="nonce"):
        ServerExchange("n,,n=T-0001,r=abc").challenge(KNOWN, wrong)


@pytest.mark.parametrize("wrong", ["", "pa\u00dfwort", "a\nb", "x" * 129])
def test_secrets_are_printable_ascii(wrong: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        credentials(wrong, SALT, ITERATIONS_MIN)


def test_steps_out_of_order_are_bugs() -> None:
    with pytest.raises(RuntimeError):
        ServerExchange("n,,n=T-0001,r=abc").verify("c=biws,r=abc,p=AAAA")
    with pytest.raises(RuntimeError):
        ClientExchange("T-0001", SECRET, "abc").verify("v=AAAA")
