"""Arithmetic on decimals in a context of our own.

The operators of decimals, and methods as `quantize`, ask the thread's context how many digits to keep and what to
raise: `decimal.getcontext().prec = 6` in a labourer's code would round our times to weeks, and a trap for `Inexact`
would raise at each of them. So times and places in queues are added, subtracted, rounded and read by `EXACT`, whose
methods ask nobody. `make lint` tells of an operator (`tools/exact_decimals.py`).
"""

from __future__ import annotations

import decimal

__all__ = ["EXACT", "MICROSECOND"]

#: Every field is given: what is left out comes from `decimal.DefaultContext`, which may be somebody's as well.
EXACT = decimal.Context(
    prec=100,
    rounding=decimal.ROUND_HALF_EVEN,
    Emin=-999_999,
    Emax=999_999,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)

MICROSECOND = decimal.Decimal("0.000001")
