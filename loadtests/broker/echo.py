"""The broker's own round trip: publish, echo, publish, heard; QoS 1 on both passages.

    python -m loadtests.broker.echo       the process that echoes: its first line of input is the broker's URL

Both ends do as little as they can, so that what is measured is the broker.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from loadtests.broker.client import BrokerClient, BrokerTrouble
from loadtests.generator.outcome import Outcome

PAYLOAD_BYTES = 192
"""As long as a publication of a relay with one redemption, sealed."""

_CHECKOUT = Path(__file__).parents[2]
_SILENCE_S = 10.0
_END_S = 10.0
_MICRO = 1e6
_EVENTS = 256
_ASK, _ANSWER = b"ask", b"answer"
_VERSION_TOPIC = "$SYS/broker/version"
_VERSION_S = 1.0


def broker_version(url: str) -> str:
    """Return what the broker says it is, '' when it does not say: Mosquitto does, iotcore does not."""
    client = BrokerClient(url)
    try:
        client.subscribe(_VERSION_TOPIC)
        told = client.first_heard(_VERSION_S)
    except BrokerTrouble:
        # iotcore ends the connection of whoever asks for such a topic.
        return ""
    finally:
        client.close()
    return told.payload.decode(errors="replace") if told is not None else ""


def measure(url: str, clients: int, *, warm_up_s: float, seconds: float) -> Outcome:
    """Let so many clients pass a message to the echo and back, one under way each. Raises BrokerTrouble."""
    name = f"tillwire-echo-{os.urandom(4).hex()}"
    with ExitStack() as stack:
        asking = [stack.enter_context(closing(BrokerClient(url))) for _ in range(clients)]
        for number, client in enumerate(asking):
            client.subscribe(f"{name}/{number}/{_ANSWER.decode()}")
        stack.enter_context(_echoing(url, name))
        try:
            return _Loop(asking, name).run(warm_up_s, seconds)
        except TimeoutError:
            raise BrokerTrouble(f"the broker said nothing for {_SILENCE_S:g} s") from None


class _Loop:
    """The clients that ask."""

    def __init__(self, clients: list[BrokerClient], name: str) -> None:
        self._payload = os.urandom(PAYLOAD_BYTES)
        self._clients = {client.socket.fileno(): client for client in clients}
        self._topics = {
            client.socket.fileno(): f"{name}/{number}/{_ASK.decode()}".encode() for number, client in enumerate(clients)
        }
        self._asked_s = dict.fromkeys(self._clients, 0.0)
        self._epoll = select.epoll()
        for fd in self._clients:
            self._epoll.register(fd, select.EPOLLIN)

    def run(self, warm_up_s: float, seconds: float) -> Outcome:
        for fd in self._clients:
            self._next(fd)
        self._until(time.monotonic() + warm_up_s, array("I"))
        latencies_us = array("I")
        began_s, cpu_s = time.monotonic(), time.process_time()
        self._until(began_s + seconds, latencies_us)
        took_s = time.monotonic() - began_s
        self._epoll.close()
        return Outcome(len(self._clients), took_s, approved=len(latencies_us), latencies_us=latencies_us,
                       cpu_s=time.process_time() - cpu_s)  # fmt: skip

    def _until(self, moment_s: float, latencies_us: array[int]) -> None:
        clock = time.monotonic
        while clock() < moment_s:
            events = self._epoll.poll(_SILENCE_S, _EVENTS)
            if not events:
                raise TimeoutError
            for fd, _ in events:
                for publication in self._clients[fd].heard():
                    if publication.payload != self._payload:
                        raise BrokerTrouble("something else came back than was sent")
                    latencies_us.append(int((clock() - self._asked_s[fd]) * _MICRO))
                    self._next(fd)

    def _next(self, fd: int) -> None:
        self._asked_s[fd] = time.monotonic()
        self._clients[fd].publish(self._topics[fd], self._payload)


@contextmanager
def _echoing(url: str, name: str) -> Iterator[None]:
    environment = {**os.environ, "PYTHONPATH": str(_CHECKOUT)}
    with subprocess.Popen(
        [sys.executable, "-m", "loadtests.broker.echo"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            # Not in its arguments, where everybody can read the password.
            process.stdin.write(f"{url}\n{name}\n")
            process.stdin.flush()
            if process.stdout.readline() != "ready\n":
                raise BrokerTrouble("the echo did not start")
            yield
        finally:
            process.stdin.close()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> None:
    """Echo until standard input ends."""
    url, name = sys.stdin.readline().strip(), sys.stdin.readline().strip()
    client = BrokerClient(url)
    client.subscribe(f"{name}/+/{_ASK.decode()}")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    stdin = sys.stdin.fileno()
    while True:
        readable, _, _ = select.select((client.socket, stdin), (), ())
        if stdin in readable:
            return
        for publication in client.heard():
            client.publish(publication.topic.removesuffix(_ASK) + _ANSWER, publication.payload)


if __name__ == "__main__":
    main()
