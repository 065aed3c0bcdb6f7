"""Every operation as a method, the same for the asyncio and the blocking client (SPEC.md, section 9)."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from protocol.requests import (
    ActivateRequest,
    BalanceRequest,
    BlockRequest,
    CaptureRequest,
    Card,
    EarnRequest,
    HoldRequest,
    Receipt,
    RedeemRequest,
    RefundRequest,
    ReleaseRequest,
    ReplaceRequest,
    Request,
    ReverseRequest,
    SaleRequest,
    StatusRequest,
)

R = TypeVar("R")


class Operations(ABC, Generic[R]):
    """Builds requests; R is what sending one returns: a Reply, or an awaitable of one.

    Points and amounts are minor units, times milliseconds. Without `request_id` a new random one is made; a register
    that keeps its requests through a power cut gives its own. `ttl_ms` 0 is the server's default.
    Each method raises what `request` raises.
    """

    ttl_ms: int = 0
    """The deadline that goes with every request made here; 0 = the server's default."""

    @abstractmethod
    def request(self, request: Request) -> R:
        """Send a request and return its reply."""

    @abstractmethod
    def new_id(self) -> bytes:
        """Return 16 random bytes."""

    @abstractmethod
    def server_now_ms(self) -> int:
        """Return the server's time in ms since the epoch; before the first connection, this machine's."""

    def balance(self, card: Card, *, request_id: bytes | None = None) -> R:
        """Ask what is there."""
        return self.request(BalanceRequest(request_id or self.new_id(), self.ttl_ms, card))

    def redeem(
        self,
        card: Card,
        points: int,
        receipt: Receipt,
        *,
        allow_partial: bool = False,
        request_id: bytes | None = None,
    ) -> R:
        """Spend points; the reply's `points` is what was spent."""
        return self.request(
            RedeemRequest(request_id or self.new_id(), self.ttl_ms, card, points, receipt, allow_partial)
        )

    def hold(
        self,
        card: Card,
        points: int,
        receipt: Receipt,
        *,
        allow_partial: bool = False,
        hold_ms: int = 0,
        request_id: bytes | None = None,
    ) -> R:
        """Set points aside; the reply's `request_id` is the hold's id, `hold_until_ms` its end."""
        return self.request(
            HoldRequest(request_id or self.new_id(), self.ttl_ms, card, points, receipt, allow_partial, hold_ms)
        )

    def capture(
        self, card: Card, hold_id: bytes, points: int, receipt: Receipt, *, request_id: bytes | None = None
    ) -> R:
        """Spend held points, 0 = all of them; the rest of the hold becomes free."""
        return self.request(CaptureRequest(request_id or self.new_id(), self.ttl_ms, card, hold_id, points, receipt))

    def release(self, card: Card, hold_id: bytes, *, request_id: bytes | None = None) -> R:
        """Let held points go."""
        return self.request(ReleaseRequest(request_id or self.new_id(), self.ttl_ms, card, hold_id))

    def earn(
        self,
        card: Card,
        receipt: Receipt,
        *,
        eligible_amount: int | None = None,
        sale_time_ms: int | None = None,
        offline: bool = False,
        request_id: bytes | None = None,
    ) -> R:
        """Give points for what was paid; `sale_time_ms` None is now, by the server's clock as far as it is known."""
        if sale_time_ms is None:
            sale_time_ms = self.server_now_ms()
        return self.request(
            EarnRequest(request_id or self.new_id(), self.ttl_ms, card, receipt, eligible_amount, sale_time_ms, offline)
        )

    def sale(
        self,
        card: Card,
        receipt: Receipt,
        points: int = 0,
        *,
        allow_partial: bool = False,
        eligible_amount: int | None = None,
        request_id: bytes | None = None,
    ) -> R:
        """Spend and earn of one receipt as one effect; `receipt.amount` is the full value before points."""
        return self.request(
            SaleRequest(request_id or self.new_id(), self.ttl_ms, card, receipt, points, allow_partial, eligible_amount)
        )

    def refund(self, card: Card, original_id: bytes, receipt: Receipt, *, request_id: bytes | None = None) -> R:
        """Goods of `receipt.amount` came back, 0 = all that is left."""
        return self.request(RefundRequest(request_id or self.new_id(), self.ttl_ms, card, original_id, receipt))

    def reverse(self, card: Card, original_id: bytes, *, request_id: bytes | None = None) -> R:
        """Whatever became of the original, it must not stand."""
        return self.request(ReverseRequest(request_id or self.new_id(), self.ttl_ms, card, original_id))

    def status(self, card: Card, original_id: bytes, *, request_id: bytes | None = None) -> R:
        """Ask what became of the original."""
        return self.request(StatusRequest(request_id or self.new_id(), self.ttl_ms, card, original_id))

    def activate(self, card: Card, *, request_id: bytes | None = None) -> R:
        """Let an issued card begin to work."""
        return self.request(ActivateRequest(request_id or self.new_id(), self.ttl_ms, card))

    def block(self, card: Card, reason: int, *, request_id: bytes | None = None) -> R:
        """Stop a card; `reason` is a BlockReason."""
        return self.request(BlockRequest(request_id or self.new_id(), self.ttl_ms, card, reason))

    def replace(self, card: Card, new_card: Card, *, request_id: bytes | None = None) -> R:
        """Put a new card in the place of the old one."""
        return self.request(ReplaceRequest(request_id or self.new_id(), self.ttl_ms, card, new_card))
