"""Whoever may read and publish everything on the broker can neither redeem, replay, read, nor take a relay's place."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ledger.registry import relays
from protocol.codes import ErrorCode
from protocol.relay_keys import KEY_BYTES, RelayCredential, relay_key
from protocol.relay_line import RelayLine
from protocol.relay_messages import (
    ITEMS_MAX,
    Data,
    Goodbye,
    Hint,
    Report,
    Roster,
    RosterQuery,
    Welcome,
    read_publication,
    write_publication,
)
from protocol.requests import HoldRequest
from server.mqtt import Message
from server.workers.worker import Worker
from tests.rigs.relay_rig import (
    SECRETS,
    HandRelay,
    Headquarters,
    Wiretap,
    altered,
    approved,
    card,
    earn,
    new_id,
    receipt,
    redeem,
    refused,
    until,
)


@pytest.fixture
async def hq(postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[Headquarters]:
    made = Headquarters(postgres_url, valkey_url, broker_url, tmp_path)
    await made.prepare()
    yield made
    await made.verify()


def counted(worker: Worker, reason: str) -> int:
    assert worker.bridge is not None
    return worker.bridge.tally.refused[reason]


async def settled(relay: HandRelay) -> None:
    """Wait until everything published before has been looked at."""
    count = len(relay.received)
    relay.publish([Report(0, 0, 0, 0)])
    await until(lambda: len(relay.received) > count)


async def test_repeated_publications_change_nothing(hq: Headquarters) -> None:
    async with hq.worker() as worker, hq.relay() as relay, Wiretap(hq.mqtt_url).listening() as attacker:
        approved(await relay.ask(earn()))
        spending = redeem()
        approved(await relay.ask(spending))
        await until(lambda: len(attacker.up("to/")) == 2)
        for message in attacker.up("to/") * 5:
            await attacker.publish(message.topic, message.payload)
        await until(lambda: counted(worker, "repeated") == 10)
        assert len(relay.replies[spending.request_id]) == 1
        assert len(await hq.journal(0)) == 2


async def test_publications_of_an_earlier_session_are_worth_nothing_in_the_next(hq: Headquarters) -> None:
    async with hq.relay(sign_on=False) as relay, Wiretap(hq.mqtt_url).listening() as attacker:
        async with hq.worker():
            await relay.sign_on()
            approved(await relay.ask(earn()))
        await until(lambda: len(attacker.up("to/")) == 1)
        before = attacker.up("to/")[0]
        async with hq.worker() as worker:
            await relay.sign_on()
            await settled(relay)
            await attacker.publish(before.topic, before.payload)
            await attacker.publish(f"{relay.credential.topic}/{relay.data_topic}", before.payload)
            await until(lambda: counted(worker, "unknown_session") == 1)
            fields = read_publication(before.payload)
            assert isinstance(fields, Data)
            assert relay.line.session_id is not None
            forged = write_publication(fields._replace(session_id=relay.line.session_id, sequence=900))
            await attacker.publish(f"{relay.credential.topic}/{relay.data_topic}", forged)
            await until(lambda: counted(worker, "not_genuine") == 1)
            assert len(await hq.journal(0)) == 1


async def test_altered_and_invented_publications_are_dropped_and_the_session_goes_on(hq: Headquarters) -> None:
    async with hq.worker() as worker, hq.relay() as relay, Wiretap(hq.mqtt_url).listening() as attacker:
        await settled(relay)
        topic = f"{relay.credential.topic}/{relay.data_topic}"
        genuine = relay.line.close([relay.item(earn())], relay.now_ms())
        for payload in (altered(genuine), altered(genuine, 0), genuine[:-20], b"", b"\xc1", os.urandom(300)):
            await attacker.publish(topic, payload)
        data = read_publication(genuine)
        assert isinstance(data, Data)
        await attacker.publish(topic, write_publication(data._replace(sequence=data.sequence + 1)))
        await attacker.publish(topic, write_publication(data._replace(sealed=b"")))
        await until(lambda: counted(worker, "not_genuine") == 4)
        assert counted(worker, "malformed") == 4
        assert await hq.journal(0) == []
        # None of that moved the window of what has come.
        approved(await relay.ask(earn()))


async def test_a_genuine_publication_under_another_relays_topic_counts_for_nobody(hq: Headquarters) -> None:
    async with (
        hq.worker() as worker,
        hq.relay("R-1") as one,
        hq.relay("R-2") as two,
        Wiretap(hq.mqtt_url).listening() as attacker,
    ):
        await settled(one)
        await settled(two)
        payload = one.line.close([one.item(earn())], one.now_ms())
        await attacker.publish(f"{two.credential.topic}/{one.data_topic}", payload)
        await until(lambda: counted(worker, "not_genuine") == 1)
        hello = one.line.hello(0)
        for topic in (two.credential.topic, one.credential.topic.replace("/R-1", "/R-3"), "tillwire/1/9/9/R-1"):
            await attacker.publish(f"{topic}/hello", hello)
        await until(lambda: counted(worker, "not_genuine") == 4)
        assert await hq.journal(0) == []


async def test_a_repeated_hello_neither_ends_the_session_nor_makes_another(hq: Headquarters) -> None:
    async with hq.worker() as worker, Wiretap(hq.mqtt_url).listening() as attacker, hq.relay() as relay:
        approved(await relay.ask(earn()))
        await until(lambda: attacker.up("hello"))
        hello = attacker.up("hello")[0]
        for _ in range(5):
            await attacker.publish(hello.topic, hello.payload)
        await until(lambda: counted(worker, "repeated") == 5)
        approved(await relay.ask(earn()))
        assert worker.bridge is not None
        assert worker.bridge.figures()["sessions"] == 1


async def test_an_old_hello_that_this_worker_never_heard_displaces_no_confirmed_session(hq: Headquarters) -> None:
    async with hq.worker() as worker, hq.relay() as relay, Wiretap(hq.mqtt_url).listening() as attacker:
        approved(await relay.ask(earn()))
        # Genuine, kept from its way by the attacker until now: the relay itself has given it up.
        kept = RelayLine(relay.credential, "hand/1", os.urandom).hello(0)
        await attacker.publish(f"{relay.credential.topic}/hello", kept)
        assert worker.bridge is not None
        bridge = worker.bridge
        await until(lambda: bridge.figures()["sessions"] == 2)
        assert bridge.figures()["relays"] == 1
        for _ in range(3):
            approved(await relay.ask(earn()))
        assert [entry["op"] for entry in await hq.journal(0)] == [21] * 4


async def test_a_new_session_of_the_relay_replaces_its_old_one_when_its_first_data_comes(hq: Headquarters) -> None:
    async with hq.worker() as worker, hq.relay() as relay:
        approved(await relay.ask(earn()))
        old = relay.line.close([relay.item(earn())], relay.now_ms())
        old_session = relay.line.session_id
        assert worker.bridge is not None
        await relay.sign_on()
        assert worker.bridge.figures()["sessions"] == 2
        approved(await relay.ask(earn()))
        assert worker.bridge.figures()["sessions"] == 1
        relay.publish_raw(relay.data_topic, old)
        await until(lambda: relay.goodbyes)
        assert relay.goodbyes[-1].about == old_session
        assert relay.goodbyes[-1].reason == Hint.UNKNOWN_SESSION
        assert len(await hq.journal(0)) == 2


async def test_a_wrong_key_gets_no_word_and_asks_nothing_of_postgresql(hq: Headquarters) -> None:
    wrong = replace(hq.credentials["R-1"], key=b"w" * KEY_BYTES)
    async with hq.worker() as worker, hq.relay(sign_on=False) as relay:
        relay.line = RelayLine(wrong, "hand/1", os.urandom)
        for _ in range(3):
            relay.say_hello()
        await until(lambda: counted(worker, "not_genuine") == 3)
        assert not relay.received


async def test_a_suspended_and_a_rotated_relay_lose_their_sessions_within_a_second_and_get_no_other(
    hq: Headquarters,
) -> None:
    async with hq.worker(), hq.relay("R-1") as suspended, hq.relay("R-2") as rotated:
        approved(await suspended.ask(earn()))
        await settled(rotated)
        async with hq.database() as connection:
            await connection.execute("UPDATE terminal SET active = false WHERE code = 'R-1'")
            relay_id = await connection.fetchval("SELECT terminal_id FROM terminal WHERE code = 'R-2'")
            assert await relays.rotate(connection, relay_id) == 2
        for relay in (suspended, rotated):
            session = relay.line.session_id
            await until(lambda relay=relay: relay.goodbyes)  # type: ignore[misc]
            assert (relay.goodbyes[0].about, relay.goodbyes[0].reason) == (session, Hint.REFUSED)
            relay.publish([relay.item(earn())])
            await until(lambda relay=relay: len(relay.goodbyes) == 2)  # type: ignore[misc]
            assert relay.goodbyes[1].reason == Hint.UNKNOWN_SESSION
            relay.say_hello()
            await until(lambda relay=relay: len(relay.goodbyes) == 3)  # type: ignore[misc]
            assert relay.goodbyes[2].reason == Hint.REFUSED
        assert len(await hq.journal(0)) == 1
        old = rotated.credential
        renewed = RelayCredential(old.network, old.store, old.code, 2, relay_key(SECRETS.relay_master, old.code, 2))
        rotated.line = RelayLine(renewed, "hand/1", os.urandom)
        await rotated.sign_on()
        approved(await rotated.ask(earn(1), "X-0"))


async def test_a_relay_that_comes_again_and_again_is_refused_each_time_and_logged_once_with_the_reason(
    hq: Headquarters,
) -> None:
    with capture_logs() as lines:
        async with hq.worker(), hq.relay("R-1", sign_on=False) as relay:
            async with hq.database() as connection:
                await connection.execute("UPDATE terminal SET active = false WHERE code = 'R-1'")
            for said in (1, 2, 3):
                relay.say_hello()
                await until(lambda said=said: len(relay.goodbyes) == said)  # type: ignore[misc]
            async with hq.database() as connection:
                await connection.execute("UPDATE terminal SET active = true WHERE code = 'R-1'")
            await relay.sign_on()
    logged = [line["reason"] for line in lines if line["event"] == "a relay was refused"]
    assert logged == ["it, its store, network or partner is suspended"]


async def test_nobody_signs_on_as_a_relay_over_tcp(hq: Headquarters) -> None:
    async with hq.database() as connection:
        rows = await connection.fetch("SELECT permitted FROM terminal WHERE code LIKE 'R-%'")
    assert [sorted(row["permitted"]) for row in rows] == [[18, 20], [18, 20]]


async def test_what_travels_tells_nothing_of_cards_or_requests(hq: Headquarters) -> None:
    async with hq.worker(), Wiretap(hq.mqtt_url).listening() as attacker, hq.relay() as relay:
        request = earn()
        approved(await relay.ask(request))
        await relay.roster()
        await until(lambda: len(attacker.heard) >= 6)
        everything = b"".join(message.topic.encode() + message.payload for message in attacker.heard)
        for secret in (
            request.card.value.encode(),
            request.request_id,
            b"0042-4",
            b"EUR",
            b"Harvest",
            b"T-0",
            relay.credential.key,
        ):
            assert secret not in everything


async def test_forged_goodbyes_and_welcomes_move_no_session(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay, Wiretap(hq.mqtt_url).listening() as attacker:
        session = relay.line.session_id
        assert session is not None
        topic = f"{relay.credential.topic}/answer"
        await attacker.publish(topic, write_publication(Goodbye(session, int(Hint.REFUSED), "go away")))
        await attacker.publish(topic, write_publication(Welcome("w", b"n" * 16, b"s" * 60)))
        await until(lambda: relay.goodbyes and len(relay.welcomes) == 2)
        # A hint is a hint: whoever goes on is served.
        approved(await relay.ask(earn()))


async def test_a_flood_of_nonsense_does_not_keep_a_relay_from_being_served(hq: Headquarters) -> None:
    async with hq.worker() as worker, hq.relay() as relay, Wiretap(hq.mqtt_url).listening() as attacker:
        await settled(relay)
        topic = relay.credential.topic

        async def flood() -> None:
            for number in range(600):
                where = ("hello", relay.data_topic, "to/nobody")[number % 3]
                await attacker.publish(f"{topic}/{where}", os.urandom(100))

        flooding = asyncio.create_task(flood())
        for _ in range(20):
            approved(await relay.ask(earn()))
        await flooding
        await until(lambda: counted(worker, "malformed") >= 300)
        assert len(await hq.journal(0)) == 20


async def test_a_relay_that_asks_for_the_roster_again_and_again_is_not_sent_more_than_it_sends(
    hq: Headquarters,
) -> None:
    async with hq.worker(), hq.relay() as relay:
        for _ in range(3):
            relay.publish([RosterQuery(0)] * ITEMS_MAX)
        approved(await relay.ask(earn()))
        await settled(relay)
        assert 1 <= sum(isinstance(item, Roster) for item in relay.items) <= 4


async def test_a_relay_that_says_hello_without_end_takes_no_other_relays_place(hq: Headquarters) -> None:
    async with hq.worker() as worker, hq.relay("R-1", sign_on=False) as mad, hq.relay("R-2", sign_on=False) as sane:
        assert worker.bridge is not None
        waiting = worker.bridge._admission._waiting
        most = 0
        for _ in range(200):
            payload = RelayLine(mad.credential, "mad/1", os.urandom).hello(0)
            worker.bridge._arrivals.take(Message(f"{mad.credential.topic}/hello", payload, None, None))
            most = max(most, len(waiting))
        assert most == 1
        await sane.sign_on()
        approved(await sane.ask(earn(), "X-0"))


async def test_a_relay_may_not_reserve_without_an_allowance(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        approved(await relay.ask(earn()))
        hold = HoldRequest(new_id(), 0, card(0), 1, receipt(), True)
        assert refused(await relay.ask(hold, "R-1")) == ErrorCode.MALFORMED
