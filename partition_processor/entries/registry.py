"""Every frame that code may send as part of its journal, by its type."""

from typing import Final

from ...core.protocol import messages
from .attach_invocation import ATTACH_INVOCATION
from .call import CALL
from .clear_all_state import CLEAR_ALL_STATE
from .clear_state import CLEAR_STATE
from .complete_awakeable import COMPLETE_AWAKEABLE
from .complete_promise import COMPLETE_PROMISE
from .entry import Entry
from .get_invocation_output import GET_INVOCATION_OUTPUT
from .get_promise import GET_PROMISE
from .get_state import GET_EAGER_STATE, GET_LAZY_STATE
from .get_state_keys import GET_EAGER_STATE_KEYS, GET_LAZY_STATE_KEYS
from .one_way_call import ONE_WAY_CALL
from .output import OUTPUT
from .peek_promise import PEEK_PROMISE
from .run import RUN, RUN_COMPLETION
from .send_signal import SEND_SIGNAL
from .set_state import SET_STATE
from .sleep import SLEEP

ENTRIES: Final[dict[int, Entry]] = {
    messages.OUTPUT_COMMAND: OUTPUT,
    messages.GET_LAZY_STATE_COMMAND: GET_LAZY_STATE,
    messages.SET_STATE_COMMAND: SET_STATE,
    messages.CLEAR_STATE_COMMAND: CLEAR_STATE,
    messages.CLEAR_ALL_STATE_COMMAND: CLEAR_ALL_STATE,
    messages.GET_LAZY_STATE_KEYS_COMMAND: GET_LAZY_STATE_KEYS,
    messages.GET_EAGER_STATE_COMMAND: GET_EAGER_STATE,
    messages.GET_EAGER_STATE_KEYS_COMMAND: GET_EAGER_STATE_KEYS,
    messages.GET_PROMISE_COMMAND: GET_PROMISE,
    messages.PEEK_PROMISE_COMMAND: PEEK_PROMISE,
    messages.COMPLETE_PROMISE_COMMAND: COMPLETE_PROMISE,
    messages.SLEEP_COMMAND: SLEEP,
    messages.CALL_COMMAND: CALL,
    messages.ONE_WAY_CALL_COMMAND: ONE_WAY_CALL,
    messages.SEND_SIGNAL_COMMAND: SEND_SIGNAL,
    messages.RUN_COMMAND: RUN,
    messages.ATTACH_INVOCATION_COMMAND: ATTACH_INVOCATION,
    messages.GET_INVOCATION_OUTPUT_COMMAND: GET_INVOCATION_OUTPUT,
    messages.COMPLETE_AWAKEABLE_COMMAND: COMPLETE_AWAKEABLE,
    messages.RUN_COMPLETION: RUN_COMPLETION,
}
