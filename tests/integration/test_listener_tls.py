"""Registers over TLS, in whatever pieces the network brings their records, and whatever else comes to such a port."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from protocol.codes import Goodbye
from protocol.framing import FrameReader
from protocol.messages import decode, encode
from protocol.session import Hello, Ping, Welcome
from server.registers.tls import server_context
from tests.rigs.certificates import certificate
from tests.rigs.listener_rig import SECRET, Shop, Till, open_shop, redeem, until

_HELLO = Hello((1,), "T-0001", "n,,n=T-0001,r=abcdefgh", "")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"), "server")


@pytest.fixture
def trusting(files: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files[0]))


@pytest.fixture
async def shop(files: tuple[Path, Path]) -> AsyncIterator[Shop]:
    async with open_shop(server_context(*files), handshake_timeout_ms=1_000, send_buffer_bytes_max=65_536) as opened:
        yield opened


async def till_over(shop: Shop, trusting: ssl.SSLContext) -> Till:
    till = await shop.connect(ssl=trusting, server_hostname="localhost")
    assert isinstance(await till.sign_on(), Welcome)
    return till


async def let_in(shop: Shop, trusting: ssl.SSLContext) -> Till:
    """Sign on as soon as there is room."""
    while True:
        with suppress(ConnectionError):
            return await till_over(shop, trusting)
        await asyncio.sleep(0.01)


class Pieces:
    """The client's end of TLS by hand: what it would send, to be sent in pieces."""

    def __init__(self, till: Till, trusting: ssl.SSLContext) -> None:
        self.till = till
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = trusting.wrap_bio(self._in, self._out, server_hostname="localhost")

    async def shake_hands(self, piece_bytes: int) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush(piece_bytes)
                await self.hear()
            else:
                await self.flush(piece_bytes)
                return

    async def flush(self, piece_bytes: int) -> None:
        records = self._out.read()
        for start in range(0, len(records), piece_bytes):
            self.till.send_bytes(records[start : start + piece_bytes])
            await self.till.writer.drain()
            await asyncio.sleep(0)

    async def hear(self) -> bytes:
        heard = await self.till.reader.read(65_536)
        self._in.write(heard)
        return heard

    async def read(self) -> bytes:
        while True:
            try:
                return self.tls.read(65_536)
            except ssl.SSLWantReadError:
                if not await self.hear():
                    raise EOFError from None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_register_signs_on_and_is_answered(shop: Shop, trusting: ssl.SSLContext, version: int) -> None:
    trusting.minimum_version = trusting.maximum_version = ssl.TLSVersion(version)
    till = await till_over(shop, trusting)
    till.send(redeem(5))
    assert (await till.receive()).answer.points == 5


async def test_a_plain_register_is_refused_and_the_log_says_why(shop: Shop) -> None:
    plain = await shop.connect()
    with capture_logs() as logs:
        plain.send(_HELLO)
        assert await nothing_but_tls(plain)
    (line,) = logs
    assert (line["event"], line["remote"]) == ("no TLS with a client", "127.0.0.1")
    assert line["reason"] in {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"}
    assert shop.listener.connections == 0


async def nothing_but_tls(till: Till) -> bool:
    try:
        await till.receive()
    except Exception:  # noqa: BLE001 - an alert is no frame, and a reset is no answer either
        return True
    return False


async def test_with_a_client_authority_a_register_needs_its_certificate(
    tmp_path: Path, files: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    client_cert, client_key = certificate(tmp_path, "client")
    async with open_shop(server_context(*files, client_cert)) as shop:
        with capture_logs() as logs:
            stranger = await shop.connect(ssl=trusting, server_hostname="localhost")
            stranger.send(_HELLO)
            assert await nothing_but_tls(stranger)
        assert [line["reason"] for line in logs] == ["PEER_DID_NOT_RETURN_A_CERTIFICATE"]
        trusting.load_cert_chain(client_cert, client_key)
        await till_over(shop, trusting)


async def test_one_who_never_shakes_hands_is_cut_off(files: tuple[Path, Path]) -> None:
    async with open_shop(server_context(*files), handshake_timeout_ms=60) as shop:
        with capture_logs() as logs:
            silent = await shop.connect()
            with pytest.raises(EOFError):
                await silent.receive()
        assert [line["reason"] for line in logs] == ["the handshake took too long"]


async def test_no_more_are_waited_for_than_may_be_connected(files: tuple[Path, Path], trusting: ssl.SSLContext) -> None:
    async with open_shop(server_context(*files), connections_max=2) as shop:
        first, _second = await shop.connect(), await shop.connect()
        with capture_logs() as logs, pytest.raises(EOFError):
            await (await shop.connect()).receive()
        assert [line["reason"] for line in logs] == ["too many handshakes at once"]
        # Whoever gets through, or goes, makes room.
        first.writer.close()
        for _ in range(2):
            assert await let_in(shop, trusting)


async def test_a_server_that_drains_waits_for_no_handshake(shop: Shop) -> None:
    silent = await shop.connect()
    await asyncio.sleep(0.05)
    await shop.listener.drain(60_000)
    with pytest.raises((EOFError, ConnectionError)):
        await silent.receive()


@pytest.mark.parametrize("piece_bytes", [1, 7, 10_000])
async def test_records_may_come_in_any_pieces(shop: Shop, trusting: ssl.SSLContext, piece_bytes: int) -> None:
    pieces = Pieces(await shop.connect(), trusting)
    await pieces.shake_hands(piece_bytes)
    pieces.tls.write(encode(_HELLO)[:3])
    pieces.tls.write(encode(_HELLO)[3:])
    await pieces.flush(piece_bytes)
    assert b"r=abcdefgh" in await pieces.read()


async def test_what_comes_with_the_end_of_the_handshake_is_heard(shop: Shop, trusting: ssl.SSLContext) -> None:
    """In TLS 1.3 the client may speak in the same breath as it finishes."""
    pieces = Pieces(await shop.connect(), trusting)
    while True:
        try:
            pieces.tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            await pieces.flush(10_000)
            await pieces.hear()
    pieces.tls.write(encode(_HELLO))
    await pieces.flush(100_000)
    assert b"r=abcdefgh" in await pieces.read()


async def test_frames_and_answers_may_need_several_records(shop: Shop, trusting: ssl.SSLContext) -> None:
    till = await till_over(shop, trusting)
    pings = [Ping(nonce) for nonce in range(10_000)]
    till.send(*pings)
    assert [(await till.receive()).nonce for _ in pings] == [ping.nonce for ping in pings]


async def test_a_last_goodbye_arrives_although_the_register_says_more(shop: Shop, trusting: ssl.SSLContext) -> None:
    pieces = Pieces(await shop.connect(), trusting)
    await pieces.shake_hands(10_000)
    pieces.till.writer.transport.pause_reading()
    pieces.tls.write(b"x" * 300_000)
    await pieces.flush(1_000_000)
    # Whoever closes a socket in which something is unread may take back what the other end has not read yet either;
    # Linux hands it over all the same, so here only the order of GOODBYE and the end is shown.
    await asyncio.sleep(0.1)
    pieces.till.writer.transport.resume_reading()
    (frame,) = FrameReader(1_000).feed(await pieces.read())
    assert decode(frame).reason == Goodbye.TOO_LARGE
    assert await pieces.read() == b""
    await until(lambda: shop.listener.connections == 0)


async def test_a_register_that_ends_tls_or_the_connection_is_let_go(shop: Shop, trusting: ssl.SSLContext) -> None:
    for ends_tls in (True, False):
        pieces = Pieces(await shop.connect(), trusting)
        await pieces.shake_hands(10_000)
        pieces.tls.write(encode(_HELLO))
        await pieces.flush(10_000)
        await pieces.read()
        assert shop.listener.connections == 1
        if ends_tls:
            with suppress(ssl.SSLWantReadError):
                pieces.tls.unwrap()
            await pieces.flush(10_000)
        else:
            pieces.till.writer.write_eof()
        await until(lambda: shop.listener.connections == 0)


async def test_a_forged_record_ends_its_connection_and_no_other(shop: Shop, trusting: ssl.SSLContext) -> None:
    till = await till_over(shop, trusting)
    pieces = Pieces(await shop.connect(), trusting)
    await pieces.shake_hands(10_000)
    await until(lambda: shop.listener.connections == 2)
    with capture_logs() as logs:
        pieces.till.send_bytes(b"\x17\x03\x03\x00\x20" + bytes(32))
        await until(lambda: shop.listener.connections == 1)
    assert [line["reason"] for line in logs] == ["DECRYPTION_FAILED_OR_BAD_RECORD_MAC"]
    till.send(redeem(5))
    assert (await till.receive()).answer.points == 5


async def test_one_who_does_not_read_is_closed(shop: Shop, trusting: ssl.SSLContext) -> None:
    deaf = await shop.connect(limit=1_024, ssl=trusting, server_hostname="localhost")
    assert isinstance(await deaf.sign_on("T-0002", SECRET), Welcome)
    deaf.writer.transport.pause_reading()
    pings = b"".join(encode(Ping(nonce)) for nonce in range(20_000))
    with suppress(ConnectionError):
        while shop.listener.connections:
            deaf.send_bytes(pings)
            await asyncio.wait([asyncio.create_task(deaf.writer.drain())], timeout=0.05)
            await asyncio.sleep(0)
    deaf.writer.transport.abort()


async def test_one_who_is_there_when_the_server_drains_is_told_so(shop: Shop, trusting: ssl.SSLContext) -> None:
    till = await till_over(shop, trusting)
    draining = asyncio.create_task(shop.listener.drain(2_000))
    assert await till.farewell() == Goodbye.DRAIN
    till.writer.close()
    await draining
    assert shop.listener.connections == 0
