"""A worker for the supervisor's tests: one line in, one line out; some lines make it misbehave."""

import asyncio
import os
import signal
import sys
import time

from prometheus_client import Counter

from server.workers.process_link import EXIT_CONFIGURATION, ProcessLink, ProcessState

LINES = Counter("obedient_lines", "Lines received.")


async def serve(link: ProcessLink) -> None:
    loop = asyncio.get_running_loop()
    link.die_with_supervisor(loop)
    stopping = asyncio.Event()
    stubborn = False
    busy = 0

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal stubborn, busy
        word, _, rest = (await reader.readline()).decode().strip().partition(" ")
        LINES.inc()
        busy += 1
        if word == "exit":
            os._exit(int(rest))
        elif word == "hang":
            writer.write(b"hanging\n")
            await writer.drain()
            time.sleep(600)
        elif word == "stubborn":
            stubborn = True
        elif word == "down":
            link.report(down=rest.split())
        elif word == "slow":
            writer.write(b"wait\n")
            await stopping.wait()
        elif word == "garbage":
            os.write(link._status_fd, b"garbage\n")
        writer.write(f"{link.index} {os.getpid()} {link.settings.partitions} {link.secrets.fingerprint()}\n".encode())
        await writer.drain()
        writer.close()
        busy -= 1

    listener = await asyncio.start_server(converse, sock=link.listen_socket)
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    reporting = asyncio.create_task(link.keep_reporting())
    link.report(ProcessState.READY, detail={"partitions": {str(link.index): "writing"}})
    await stopping.wait()
    link.report(ProcessState.DRAINING)
    listener.close()
    while busy or stubborn:
        await asyncio.sleep(0.01)
    reporting.cancel()


def main() -> None:
    link = ProcessLink(sys.argv[1:])
    if link.settings.connections_max == 1:
        sys.exit(EXIT_CONFIGURATION)
    asyncio.run(serve(link))


if __name__ == "__main__":
    main()
