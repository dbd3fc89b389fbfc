"""Where headrace answers in the third protocol otherwise than the official server, and why."""

from tests.clients.known import Known

_REFUSED = r"\$\.(error|meta|result|type)"

PROTOCOL: list[Known] = [
    Known(
        "better",
        "Errors have the codes of the protocol with status 200",
        r"\$\.message",
        "^(commands_are_sent|questions_are_answered): ",
    ),
    Known(
        "better",
        "Errors have the codes of the protocol with status 200",
        r"\$\.error",
        r"^commands_are_sent: (command .*'assistant_id'|start \{'metadata': 'x')",
        "'?unknown_error'? -> '?invalid_argument",
    ),
    Known("better", "what is no command is 400", "status", "{'id': True", "^200 -> 400"),
    Known(
        "better", "`params` that are no object are 400", "status", r"'params': \[\]", "^200 -> 400"
    ),
    Known("better", "A body that is no JSON is 422", "status", ": no json$", "^400.* -> 422"),
    Known(
        "better",
        "`result` of `input.respond` names the run",
        r"\$\.result\.run_id",
        "^questions_are_answered: answered",
    ),
    Known("better", "there it succeeds, and does nothing", _REFUSED, "'subscription.subscribe'"),
    Known(
        "better",
        "`input.inject` and `state.*` are `not_supported`, and unknown there",
        r"\$\.error",
        "'(state.get|input.inject)'",
    ),
    Known(
        "better",
        "A field of a run with a value that no run can have",
        _REFUSED,
        r"^commands_are_sent: start \{'(config|multitask_strategy|durability|after_seconds)'",
        r"absent|-> error$",
    ),
    Known(
        "better",
        "`no_such_run` there",
        r"\$\.error",
        "^commands_are_sent: unknown thread$",
    ),
]
