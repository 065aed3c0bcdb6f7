"""`tillwire add ...` and `tillwire timezone`: what an installation needs before its first sale."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from zoneinfo import available_timezones

import typer

from admin_api.cards.card_numbers import ean13_numbers, new_card
from admin_api.coalition.relay_credentials import ALLOWANCE_MS, ALLOWANCE_MS_MAX, ALLOWANCE_MS_MIN
from ledger.journal.onboarding import NotOnboarded, Onboarding, onboarding
from ledger.journal.writer import JournalDown
from ledger.programme import Rules
from ledger.rules_check import BadRules, check
from protocol.codes import AMOUNT_MAX, CardKind, Message
from protocol.session import TERMINAL_ID
from protocol.tokens import BadCard
from server.commands import population
from server.commands.invocation import JsonOption, invocation, required_url, say, say_json
from server.errors import OperatorError, UsageError
from server.programme_setup import add_relay, add_terminal
from server.secrets import load_secrets

Work = Callable[[Onboarding], Awaitable[dict[str, Any]]]

_CARDS_AT_ONCE_MAX = 1_000_000
_OPERATIONS = {op.name.lower(): int(op) for op in Message if Message.BALANCE <= op <= Message.REPLACE}

add_app = typer.Typer(no_args_is_help=True, help="Add a partner, network, store, terminal, relay or cards.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    population.register(add_app)
    app.add_typer(add_app, name="add")
    app.command()(timezone)


def _run(context: typer.Context, work: Work, as_json: bool, sentence: str) -> None:
    """Do the work in one transaction; print its result as JSON or as a sentence with the result's fields filled in."""
    url = required_url(invocation(context).attached(), "postgres_url")

    async def worked() -> dict[str, Any]:
        async with onboarding(url) as to:
            return await work(to)

    try:
        result = asyncio.run(worked())
    except (NotOnboarded, JournalDown) as error:
        raise OperatorError(str(error)) from None
    if as_json:
        say_json(result)
    else:
        say(sentence.format_map(result))


@add_app.command()
def partner(context: typer.Context, name: str, as_json: JsonOption = False) -> None:
    """Add a partner: a legal entity of the coalition."""

    async def work(to: Onboarding) -> dict[str, Any]:
        return {"partner_id": await to.partner(name), "name": name}

    _run(context, work, as_json, "partner {partner_id}: {name}")


@add_app.command()
def network(  # noqa: PLR0917 - typer makes an option of each
    context: typer.Context,
    name: str,
    partner: Annotated[str, typer.Option(help="Name of the partner.")],
    currency: Annotated[str, typer.Option(help="ISO 4217 code.")],
    earn_rate_bp: Annotated[int, typer.Option(help="Points for money, in hundredths of a percent: 500 is 5 %.")] = 0,
    activation_days: Annotated[int, typer.Option(help="Days until earned points can be spent.")] = 0,
    expiry_days: Annotated[int, typer.Option(help="Days until they expire; 0 and no months: never.")] = 0,
    expiry_months: Annotated[int, typer.Option(help="Months until they expire.")] = 0,
    expiry_at_month_end: Annotated[bool, typer.Option(help="Expire at the end of that month.")] = False,
    redeem_min: Annotated[int, typer.Option(help="Least minor points in one redemption.")] = 0,
    redeem_max: Annotated[int, typer.Option(help="Most minor points in one redemption; 0: no limit.")] = 0,
    share_bp: Annotated[int, typer.Option(help="Largest share of a receipt, in hundredths of a percent.")] = 10_000,
    day_points_max: Annotated[int, typer.Option(help="Most minor points an account spends a day; 0: no limit.")] = 0,
    day_count_max: Annotated[int, typer.Option(help="Most redemptions of an account a day; 0: no limit.")] = 0,
    terminal_day_points_max: Annotated[int, typer.Option(help="The same for a terminal; 0: no limit.")] = 0,
    greeting: Annotated[bool, typer.Option(help="Registers may greet members by name.")] = False,
    slip: Annotated[
        list[str] | None, typer.Option(help="A slip line such as 'Balance: {available}'; repeat it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a network of stores with its rules."""
    rules = Rules(
        valid_from_ms=0,
        earn_rate_bp=earn_rate_bp,
        activation_days=activation_days,
        expiry_days=expiry_days,
        expiry_months=expiry_months,
        expiry_at_month_end=expiry_at_month_end,
        redeem_min=redeem_min,
        redeem_max=redeem_max,
        share_bp=share_bp,
        day_points_max=day_points_max,
        day_count_max=day_count_max,
        terminal_day_points_max=terminal_day_points_max,
        greeting=greeting,
        slip=tuple(slip or ()),
    )
    try:
        check(rules)
    except BadRules as error:
        raise UsageError(str(error)) from None

    async def work(to: Onboarding) -> dict[str, Any]:
        partner_id = _existing(await to.partner_named(partner), f"partner named {partner!r}")
        network_id = await to.network(partner_id, name, currency)
        await to.rules(network_id, rules)
        return {"network_id": network_id, "name": name}

    _run(context, work, as_json, "network {network_id}: {name}")


@add_app.command()
def store(
    context: typer.Context,
    name: str,
    network: Annotated[str, typer.Option(help="Name of the network.")],
    as_json: JsonOption = False,
) -> None:
    """Add a store to a network."""

    async def work(to: Onboarding) -> dict[str, Any]:
        network_id = _existing(await to.network_named(network), f"network named {network!r}")
        return {"store_id": await to.store(network_id, name), "name": name}

    _run(context, work, as_json, "store {store_id}: {name}")


@add_app.command()
def terminal(
    context: typer.Context,
    code: str,
    store: Annotated[int, typer.Option(help="Number of the store.")],
    may: Annotated[str, typer.Option(help=f"Operations by comma, of: {', '.join(_OPERATIONS)}; or `all`.")] = "all",
    as_json: JsonOption = False,
) -> None:
    """Add a terminal and print its secret, which is kept nowhere and cannot be shown again."""
    _check_code(code)
    names = list(_OPERATIONS) if may == "all" else [name.strip().lower() for name in may.split(",")]
    unknown = [name for name in names if name not in _OPERATIONS]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is no operation; there are {', '.join(_OPERATIONS)}")

    async def work(to: Onboarding) -> dict[str, Any]:
        if not await to.has_store(store):
            raise OperatorError(f"there is no store {store}")
        permitted = [_OPERATIONS[name] for name in names]
        return {"terminal": code, "secret": await add_terminal(to, store, code, permitted)}

    _run(context, work, as_json, "terminal {terminal}, secret {secret}")


@add_app.command()
def relay(
    context: typer.Context,
    code: str,
    store: Annotated[int, typer.Option(help="Number of the store; it has one relay.")],
    allowance_points: Annotated[
        int,
        typer.Option(
            min=0, max=AMOUNT_MAX, help="Minor points to set aside for a card, to be spent off line; 0: none."
        ),
    ] = 0,
    allowance_ms: Annotated[
        int,
        typer.Option(min=ALLOWANCE_MS_MIN, max=ALLOWANCE_MS_MAX, help="How long those may be spent off line."),
    ] = ALLOWANCE_MS,
    as_json: JsonOption = False,
) -> None:
    """Give a store its relay and print the relay's credential, which is kept nowhere and cannot be shown again."""
    _check_code(code)
    master = load_secrets(invocation(context).attached()).relay_master

    async def work(to: Onboarding) -> dict[str, Any]:
        try:
            credential = await add_relay(
                to, master, store, code, allowance_points=allowance_points, allowance_ms=allowance_ms
            )
        except LookupError as error:
            raise OperatorError(str(error)) from None
        return {"relay": code, "credential": credential}

    _run(context, work, as_json, "relay {relay}, credential {credential}")


@add_app.command()
def cards(
    context: typer.Context,
    first12: Annotated[str, typer.Argument(help="The first 12 digits of the first EAN-13.")],
    count: Annotated[int, typer.Option(min=1, max=_CARDS_AT_ONCE_MAX)] = 1,
    active: Annotated[bool, typer.Option(help="Ready to use; else a register must ACTIVATE them.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add consecutive EAN-13 cards, each with an account of its own; cards that exist are left alone."""
    key = load_secrets(invocation(context).attached()).token_key
    try:
        numbers = ean13_numbers(first12, count)
        new = [new_card(CardKind.EAN13, number, key, active=active) for number in numbers]
    except (BadCard, ValueError) as error:
        raise UsageError(f"{first12!r} does not begin an EAN-13: {error}") from None

    async def work(to: Onboarding) -> dict[str, Any]:
        return {"added": len(await to.cards(new)), "first": numbers[0], "last": numbers[-1]}

    _run(context, work, as_json, "{added} cards from {first} to {last}")


def timezone(context: typer.Context, name: str, as_json: JsonOption = False) -> None:
    """Set the programme's time zone (IANA name), in which days begin and end."""
    if name not in available_timezones():
        raise UsageError(f"{name!r} is not a known IANA time zone")

    async def work(to: Onboarding) -> dict[str, Any]:
        await to.time_zone(name)
        return {"timezone": name}

    _run(context, work, as_json, "days begin and end in {timezone}")


def _check_code(code: str) -> None:
    if not TERMINAL_ID.fullmatch(code):
        raise UsageError(f"{code!r} is no terminal's code: 1 to 64 letters, digits, dots, colons, dashes, underscores")


def _existing(found: int | None, what: str) -> int:
    if found is None:
        raise OperatorError(f"there is no {what}")
    return found
