"""Programs drawn from a seed: what the handlers of a history do, and whom they call.

Bounded so that every history ends: invocations in all, operations per program, depth. Handlers
that hold an object wait only for what comes after it in one order of all objects, as two that wait
for each other's would wait for ever, and no runtime can help them.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from ...partition_processor.records import (
    KIND_OBJECT_EXCLUSIVE,
    KIND_OBJECT_SHARED,
    KIND_SERVICE,
    KIND_WORKFLOW_RUN,
    KIND_WORKFLOW_SHARED,
)
from ..simulation.chance import Chance
from .interpreter import Operation, Program

NOTHING_HELD: Final = -1
_ALL: Final = 1_000
_OBJECTS: Final = tuple((service, f"k{n}") for n in range(3) for service in ("Counter", "Lazy"))
_WORKFLOW_KEYS: Final = ("w0", "w1", "w2")
_DEPTH_MAX: Final = 3
_STATES: Final = ("a", "b", "c")
_WRITERS: Final = (KIND_OBJECT_EXCLUSIVE, KIND_WORKFLOW_RUN)


class Request(msgspec.Struct, frozen=True):
    """Whom to call with what."""

    service: str
    handler: str
    key: str | None
    idempotency_key: str | None
    kind: int
    program: Program


class Composer:
    """Draws requests with their programs."""

    def __init__(self, chance: Chance, invocations_max: int) -> None:
        """Draw from `chance` until so many invocations are planned."""
        self._chance = chance
        self._left = invocations_max
        # More than a few padded values would make a history slow, and find nothing more.
        self._pads = chance.happens(0.3)
        self._sleep_ms_max = chance.pick((5, 50, 400))
        self._simple: list[tuple[int, Callable[[int], Operation]]] = [
            (30, lambda _kind: self._step()),
            (10, lambda _kind: self._sleep()),
            (5, lambda _kind: ["awakeable"]),
            (4, lambda _kind: ["signal", chance.pick(("ready", "go"))]),
            (3, lambda _kind: ["fail", chance.pick((400, 409, 500))]),
        ]

    def request(self, depth: int = 0, held: int = NOTHING_HELD) -> Request:
        """One request that may be waited for by somebody who holds the objects up to `held`."""
        chance = self._chance
        self._left -= 1
        what = chance.between(0, 99)
        idempotency_key = chance.pick(("i", "j", None, None, None))
        # Two that join each other by their keys would wait for ever, too.
        depth = depth if idempotency_key is None else _DEPTH_MAX
        after = [number for number in range(len(_OBJECTS)) if number > held]
        if what < 45 and after:
            number = chance.pick(after)
            service, key = _OBJECTS[number]
            if chance.happens(0.25):
                program = self._program(depth, KIND_OBJECT_SHARED, max(held, number))
                return Request(service, "look", key, idempotency_key, KIND_OBJECT_SHARED, program)
            program = self._program(depth, KIND_OBJECT_EXCLUSIVE, number)
            return Request(service, "alone", key, idempotency_key, KIND_OBJECT_EXCLUSIVE, program)
        if what < 60:
            key = chance.pick(_WORKFLOW_KEYS)
            if chance.happens(0.5):
                program = self._program(depth, KIND_WORKFLOW_SHARED, _ALL)
                return Request("Flow", "poke", key, idempotency_key, KIND_WORKFLOW_SHARED, program)
            program = self._program(depth, KIND_WORKFLOW_RUN, _ALL)
            return Request("Flow", "main", key, None, KIND_WORKFLOW_RUN, program)
        # Whoever comes first brings a key's program, whatever those hold who join.
        held = held if idempotency_key is None else _ALL
        program = self._program(depth, KIND_SERVICE, held)
        service = chance.pick(("Plain", "Hasty"))
        return Request(service, "run", None, idempotency_key, KIND_SERVICE, program)

    def _program(self, depth: int, kind: int, held: int) -> Program:
        count = self._chance.between(1, 4 if depth == 0 else 3)
        return [self._operation(depth, kind, held, 0) for _ in range(count)]

    def _operation(self, depth: int, kind: int, held: int, nesting: int) -> Operation:
        chance = self._chance
        what = chance.between(0, 99)
        if what < 25 and depth < _DEPTH_MAX and self._left > 0:
            return self._call(depth, held) if chance.happens(0.6) else self._send(depth, held)
        if what < 27 and kind == KIND_OBJECT_EXCLUSIVE:
            # Its own object, which can never begin: refused, not waited for.
            return ["call", [_OBJECTS[held][0], "alone", _OBJECTS[held][1], None], [], 0, False]
        if what < 50 and nesting < 2:
            return self._nested(depth, kind, held, nesting + 1)
        if what < 65 and kind != KIND_SERVICE:
            return self._state(kind)
        if what < 75 and kind in (KIND_WORKFLOW_RUN, KIND_WORKFLOW_SHARED):
            return ["promise", chance.pick(("p", "q")), chance.pick(("value", "resolve", "peek"))]
        drawn = chance.between(0, sum(weight for weight, _ in self._simple) - 1)
        for weight, make in self._simple:
            drawn -= weight
            if drawn < 0:
                return make(kind)
        raise AssertionError

    def _pad(self) -> int:
        return self._chance.pick((0, 0, 0, 1500, 5000)) if self._pads else 0

    def _step(self) -> Operation:
        chance = self._chance
        failures = chance.pick((0, 0, 0, 0, 1, 2, 3))
        return ["step", failures, chance.happens(0.06), chance.happens(0.2), self._pad()]

    def _sleep(self) -> Operation:
        return ["sleep", self._chance.between(0, self._sleep_ms_max), self._chance.happens(0.5)]

    def _state(self, kind: int) -> Operation:
        chance = self._chance
        what = chance.between(0, 9) if kind in _WRITERS else chance.between(6, 9)
        if what < 5:
            return ["set", chance.pick(_STATES), self._pad()]
        if what == 5:
            return ["clear", chance.pick((*_STATES, ""))]
        return ["keys"] if what == 6 else ["get", chance.pick(_STATES)]

    def _call(self, depth: int, held: int) -> Operation:
        chance = self._chance
        target = self.request(depth + 1, held)
        timeout_ms = chance.between(1, 60) if chance.happens(0.15) else 0
        return ["call", _name(target), target.program, timeout_ms, chance.happens(0.1)]

    def _send(self, depth: int, held: int) -> Operation:
        chance = self._chance
        then = chance.pick(("", "", "cancel", "signal", "attach", "output"))
        target = self.request(depth + 1, held if then == "attach" else NOTHING_HELD)
        if then == "attach" and target.kind == KIND_WORKFLOW_RUN:
            then = ""  # It may be the one that runs this very program.
        delay_ms = chance.between(1, 80) if chance.happens(0.4) else 0
        return ["send", _name(target), target.program, delay_ms, then]

    def _nested(self, depth: int, kind: int, held: int, nesting: int) -> Operation:
        chance = self._chance
        what = chance.between(0, 9)
        if what < 4:
            parts = [
                self._operation(depth, kind, held, nesting) for _ in range(chance.between(2, 3))
            ]
            return [("gather", "gather", "group", "race")[what], *parts]
        if what < 6:
            inner = self._operation(depth, kind, held, nesting)
            return ["timeout", chance.between(1, 60), inner]
        program = [self._operation(depth, kind, held, nesting) for _ in range(chance.between(1, 2))]
        return ["attempt", program, [self._operation(depth, kind, held, 2)]]


def _name(request: Request) -> list[str | None]:
    return [request.service, request.handler, request.key, request.idempotency_key]
