"""Where headrace answers about crons otherwise than the official server, and why."""

from tests.clients.known import Known

_TAKEN = r"^(200|500.*) -> 4\d\d"
_FOUND = r"^4\d\d.* -> 200$"

CRONS: list[Known] = [
    Known("better", "there some routes answer 422", "status", "^crons_are", r"^422.*null is not"),
    Known(
        "better",
        "there some routes answer 422",
        r"status|\$(\[\])?(\.end_time)?|headers\.x-pagination-total",
        r"^crons_are_\w+: (no body|nothing|.*(timezone|end_time|webhook)=''|.*'assistant_id': '')",
    ),
    Known(
        "better",
        "Read as what it says; there 422",
        "status",
        r"^crons_are.* enabled=(1|'false')$",
        _FOUND,
    ),
    Known(
        "different",
        "422 for what cannot be read or is out of its range",
        "status",
        r"assistant_id='|schedule='0 0 31 2|: made without ",
        r"^(400|404|500).* -> 422",
    ),
    Known(
        "better",
        "an unknown status, mode or strategy are 422",
        "status",
        r"^crons_are.* (multitask_strategy='x'|on_run_completed='x?')$|'enabled': 'x'",
        _TAKEN,
    ),
    Known(
        "better",
        "The fields of a run are checked as for a run",
        "status",
        r"^crons_are.* input='x'$",
        _FOUND,
    ),
    Known(
        "better",
        "`on_run_completed: delete` with a thread is 422",
        "status",
        "on a thread on_run_completed='delete'$",
        _TAKEN,
    ),
    Known(
        "different",
        "there `end_time` is the text that was sent",
        r"\$(\[\])?\.end_time",
        "^crons_are",
    ),
    Known(
        "different",
        "there it has `end_time` and unknown fields too",
        r"\$(\[\])?\.payload\.(end_time|nobody|next_run_date|user_id)",
        "^crons_are",
    ),
    Known("different", "`stream_mode` as a list", r"\$\.payload\.stream_mode(\[\])?", "^crons_are"),
    Known(
        "different",
        "Six are 422, unless",
        "status",
        r"^crons_are.* schedule='\S+( \*){5}'$",
        _TAKEN,
    ),
    Known("better", "there any text is taken as `end_time`", "status", " end_time='", _TAKEN),
    Known(
        "better",
        "in `payload` too, where it is replaced there",
        r"\$\.payload\.metadata\.m",
        "^crons_are_changed: (changed|then) metadata=",
    ),
    Known(
        "better",
        "an unknown assistant is 404, another `thread_id` 422",
        "status",
        "^crons_are_changed: changed (assistant_id|thread_id)=",
        _TAKEN,
    ),
    Known(
        "better",
        "`null` removes one",
        r"\$\.payload\.multitask_strategy",
        "^crons_are_changed: .*=None$",
    ),
    Known(
        "better", "(also the name of a graph", "status", "'assistant_id': '(agent|hitl)'", _FOUND
    ),
    Known("better", "one that is no UUID finds nothing", "status", "'thread_id': 'x'", _FOUND),
    Known("better", "there a count ignores it", r"\$", "^crons_are_searched: count: {'enabled'"),
    Known("better", "`end_time` is 500 there", "status", "'sort_by': 'end_time'", "^500.* -> 200$"),
    Known(
        "different",
        "there it is deleted with the assistant",
        r"\$\[\]",
        "^crons_go_with_their_thread: its cron after",
    ),
    # What a firing makes
    Known(
        "better",
        "Thread and run have `cron_id` in their metadata, and the run `cron_slot`",
        r"\$(\[\])?\.metadata\.cron_(id|slot)",
        "^crons_fire",
        r"^\(absent\) -> ",
    ),
    Known(
        "better",
        "there `context` has `cron_id`",
        r"\$\[\]\.kwargs\.context\.(cron_id|langgraph_auth_user)",
        "^crons_fire",
    ),
    Known(
        "better",
        "the slots that have passed get no run; there the last one gets it",
        r"\$\[\]",
        "^crons_fire: off: the slot that has passed",
    ),
    Known(
        "different",
        "there it is deleted with the assistant",
        "status",
        "^crons_fire: without its assistant: the cron",
        "^404.* -> 200$",
    ),
    Known(
        "better",
        "in `payload` too, where it is replaced there",
        r"\$\.payload\.metadata\.mark",
        "^crons_fire: changed: ",
    ),
    Known(
        "better",
        "a batch's runs say their `graph_id`",
        r"\$\[\]\.metadata\.graph_id",
        "^crons_fire: .*: its runs$",
    ),
    Known(
        "different",
        "`kwargs` of a run: what the caller said",
        r"\$\[\]\.kwargs\.config\.metadata\.(assistant_id|created_by|mark|of|run_attempt)",
        "^crons_fire: plain: its runs$",
    ),
    Known(
        "different",
        "`config` is what its last run",
        r"\$\[\]\.config\.(configurable\.a|metadata|tags)",
        "^crons_fire: plain: it has fired$",
    ),
    Known(
        "different",
        "A checkpoint has only the ids of `configurable`",
        r"\$\.metadata\.(a|model_name)",
        "^crons_fire: (plain|context): its state$",
    ),
    Known(
        "different",
        "no key that begins with two underscores",
        r"\$(\[\])?\.values\.log\[\]",
        "^crons_fire: context: ",
        "__pregel_call",
    ),
    Known(
        "different",
        "The ids, `run_attempt` and what the caller gave",
        r"\$(\[\])?\.values\.log\[\]",
        "^crons_fire: context: ",
        "run_attempt",
    ),
    Known(
        "different",
        "says who was cancelled in words of its own",
        r"\$\.error\.message",
        "^crons_fire: interrupt: its thread after$",
    ),
]
