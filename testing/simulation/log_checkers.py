"""What must hold of a bare log's records, after each crash and at the end."""

from collections.abc import Iterator

from ...log.producers import ProducerFilter
from .log_history import LogHistory, Place, Request, place_of
from .observer import LogRecord
from .violation import require


def check_log_survival(
    committed: list[LogRecord], found: list[LogRecord], history: LogHistory
) -> None:
    """After a crash: what was committed is there, and all that anybody was told of.

    Raises InvariantViolation.
    """
    require(
        found[: len(committed)] == committed,
        "what was committed survives a crash",
        f"log {history.observer.log}: {len(committed)} records were committed, "
        f"{len(found)} are there",
    )
    for lsn, item in history.shown.items():
        require(
            lsn <= len(found) and found[lsn - 1] == item,
            "what was told stays in the log",
            f"LSN {lsn}: {place_of(item.record)}",
        )
    for _ in _groups(found):
        pass


def check_log_end(records: list[LogRecord], history: LogHistory) -> None:
    """Everything that must hold once all work is done. Raises InvariantViolation."""
    check_log_survival(records, records, history)
    places: dict[tuple[str, int], list[int]] = {}
    for lsn, place in _groups(records):
        places.setdefault((place.client, place.number), []).append(lsn)
    _check_conditions(records, history)
    counted = count_groups(records)
    requests: dict[str, list[Request]] = {}
    for request in history.requests:
        requests.setdefault(request.client, []).append(request)
    for client, its in requests.items():
        _check_requests(its, places, counted.get(client, []))
    strangers = {client for client, _ in places} - set(requests)
    require(not strangers, "every record is some client's", sorted(strangers))


def _groups(records: list[LogRecord]) -> Iterator[tuple[int, Place]]:
    """The first LSN of each append; each is there whole, in order, with nothing in between."""
    expected: Place | None = None
    for item in records:
        place = place_of(item.record)
        require(
            place == (expected or Place(place.client, place.number, 0, place.records)),
            "an append is contiguous and whole",
            f"LSN {item.lsn}: {place}",
        )
        if expected is None:
            yield item.lsn, place
        after = place.position + 1
        expected = None
        if after < place.records:
            expected = Place(place.client, place.number, after, place.records)
    require(
        expected is None, "an append is contiguous and whole", f"the log ends before {expected}"
    )


def _check_conditions(records: list[LogRecord], history: LogHistory) -> None:
    """No record of a key lies between a committed record and what its condition had seen."""
    last: dict[bytes, int] = {}
    every_key = 0
    for item in records:
        record = item.record
        place = place_of(record)
        if record.conditions:
            sent = history.sent_conditions[f"{place.client} {place.number}"]
            require(
                record.conditions in sent, "conditions are stored as they were sent", str(place)
            )
        for key, lsn in record.conditions:
            newest = max(last.get(key, 0), every_key)
            require(
                newest <= lsn,
                "a condition held when its append was committed",
                f"LSN {item.lsn} of {place.client} {place.number} rests on {lsn}, "
                f"the key has a record at {newest}",
            )
        if record.keys is None:
            every_key = item.lsn
        else:
            last.update((key, item.lsn) for key in record.keys)


def count_groups(records: list[LogRecord]) -> dict[str, list[int]]:
    """By producer the numbers of its groups that count, in their order."""
    counted: dict[str, list[int]] = {}
    accepts = ProducerFilter()
    for item in records:
        if item.record.producer is not None and accepts.accept(item.record):
            place = place_of(item.record)
            if place.position == 0:
                counted.setdefault(place.client, []).append(place.number)
    return counted


def _check_requests(
    requests: list[Request], places: dict[tuple[str, int], list[int]], counted: list[int]
) -> None:
    """What became of a client's requests agrees with what it was told."""
    for request in requests:
        lsns = places.get((request.client, request.number), [])
        require(
            not (request.refused and lsns),
            "what was refused is never in the log",
            f"{request.name} is at {lsns} after {request.refused}",
        )
        if not request.numbered:
            require(
                len(lsns) <= 1, "a request commits at most once", f"{request.name} is at {lsns}"
            )
        require(
            not request.acknowledged or bool(lsns),
            "what was acknowledged is in the log",
            request.name,
        )
        require(
            not request.committed_lsn or request.committed_lsn in lsns,
            "what was acknowledged is in the log",
            f"{request.name} is at {lsns}, not at {request.committed_lsn}",
        )
        if request.numbered and request.acknowledged:
            require(
                counted.count(request.number) == 1,
                "what was acknowledged counts exactly once",
                f"{request.name} counts {counted.count(request.number)} times",
            )
    require(
        counted == sorted(set(counted)),
        "what a producer sent counts in its order",
        f"{requests[0].client}: {counted}",
    )
