"""How records are printed: one line each, as they come."""

from typing import TYPE_CHECKING, Final

from ..output import printable

if TYPE_CHECKING:
    import msgspec

    from ...api.log_answers import RecordView, TrimGapView

_FRACTION_DIGITS_CUT: Final = 3
_ID_COLUMNS: Final = 38

HEADINGS: Final = (
    f"{'LSN':>8}  {'TIME':<27}  {'KIND':<14}  {'INVOCATION':<{_ID_COLUMNS}}  "
    f"{'ATTEMPT':>7}  {'BYTES':>7}  DETAIL"
)


def decode_item(item: "msgspec.Raw") -> "RecordView | TrimGapView":
    """An item of a page. Raises msgspec.MsgspecError for what is neither."""
    import msgspec

    from ...api.log_answers import RecordView, TrimGapView

    try:
        return msgspec.json.decode(item, type=TrimGapView)
    except msgspec.ValidationError:
        return msgspec.json.decode(item, type=RecordView)


def record_line(record: "RecordView") -> str:
    """A record under `HEADINGS`; times to the microsecond, so that a line stays short."""
    time = f"{record.time[: -_FRACTION_DIGITS_CUT - 1]}Z"
    line = (
        f"{record.lsn:>8}  {time:<27}  {record.kind:<14}  "
        f"{record.invocation or '-':<{_ID_COLUMNS}}  "
        f"{record.attempt or '-':>7}  {record.body_bytes:>7}  {printable(_detail(record))}"
    )
    return line.rstrip()


def gap_line(gap: "TrimGapView") -> str:
    """A line for what is gone."""
    first, last = gap.trim_gap
    return f"{first:>8}  up to LSN {last} was trimmed"


def _detail(record: "RecordView") -> str:
    if record.problem is not None:
        return record.problem
    if record.frames is not None:
        return " ".join(record.frames)
    if record.failure is not None:
        return f"{record.failure}; {record.detail}"
    return record.detail or ""
