"""Where headrace answers otherwise than the official server, and why.

An entry that no step needs any more fails the comparison, as a difference without an entry does.
"""

from tests.clients.known import Known
from tests.clients.side_by_side.listed_crons import CRONS
from tests.clients.side_by_side.listed_protocol import PROTOCOL

#: Of both answers a refusal, the official one first.
_REFUSALS = r"^(0 .*|4\d\d.*) -> 4\d\d"
#: Accepted there, or an error of that server; refused here.
_TAKEN = r"^(200|500.*|0 .*) -> 422"
_FOUND = r" -> 200$"

LISTED: list[Known] = [
    *CRONS,
    *PROTOCOL,
    # Everywhere
    Known(
        "different",
        "422 for what cannot be read or is out of its range",
        "status",
        r"supersteps=\[\{'updates': \[\]\}\]|^threads_are_named_oddly: wait |version=(0|-1)$"
        r"|at \{'checkpoint_ns': 'nobody'\}|^runs_are_managed: odd( action|: (limit|offset)='x')"
        r"|^items_are_stored: (get: key=''|namespace \['langgraph'\]|filter: .*\$x)",
        _REFUSALS,
    ),
    Known(
        "better",
        "an unknown status, mode or strategy are 422",
        "status",
        r"(limit|offset|max_depth)=-?\d+$|^runs_are_managed: odd: status=|stream_mode='x'"
        r"|: follow 'x'",
        r"^200 -> 422 ((query\.)?(limit|offset|max_depth|status): |stream_mode: |Invalid stream)",
    ),
    Known(
        "better",
        "an unknown status, mode or strategy are 422",
        "status",
        r": (interrupt_before='reply'|multitask_strategy='x?'|if_not_exists='x'"
        r"|on_completion='x'|after_seconds=-1)$",
        "^200 -> 422",
    ),
    Known(
        "better",
        "where no field is needed",
        "status",
        r"^routes_are_asked_oddly: (no body|empty body|null)$|: background webhook=''",
        _FOUND,
    ),
    Known("different", "`repr()`, text", r"tasks\.error", "boom tasks"),
    Known("better", "422; there it is accepted, and shown as", "status", ": NUL$", _TAKEN),
    Known("better", "Exact; there they become floats", r"\$\.metadata\.a", ": big integer$"),
    Known(
        "different",
        "no key that begins with two underscores",
        r"(values|updates\.ctxnode|tasks\.result)\.log\[\]",
        ": ctx ",
        "__pregel_call",
    ),
    Known(
        "different",
        "The ids, `run_attempt` and what the caller gave",
        r"(values|updates\.ctxnode|tasks\.result)\.log\[\]",
        ": ctx ",
        "langgraph_api_version",
    ),
    # Runs
    Known("better", "Values that no run can have", "status", r": config=\{", _TAKEN),
    Known(
        "better",
        "404 `checkpoint_not_found`",
        "status",
        r"checkpoint(_id)?=",
        r"^200 -> (404|422)",
    ),
    Known("better", "A command that says nothing", "status", r"command=\{.*(None|nobody)", _TAKEN),
    Known("better", "422, with the graph's nodes", "status", r"'nobody'|\['nobody'\]", _TAKEN),
    Known(
        "better",
        "It starts from nothing",
        "status",
        r"^runs_\w+: (wait|stateless): command=\{'(resume|update)'",
        r"^0 .*NoneType.* -> 200$",
    ),
    Known(
        "better",
        "Taken; an internal error there",
        "status",
        "stateless: durability='sync'",
        _FOUND,
    ),
    Known("better", "Told, as of any run", "events", ": stateless checkpoints"),
    Known(
        "different",
        "`config` is what its last run",
        r"\$\.config\.(tags|metadata|recursion_limit|max_concurrency|run_name|nobody"
        r"|configurable\.a)",
        "left by config=|^runs_make_threads: ",
    ),
    Known(
        "better",
        "the values that this run has left",
        r"\$\.(n\[\]|secs)",
        "^runs_meet_on_a_thread: first after",
    ),
    Known(
        "better",
        "An unknown run is 404, not 200 with an error inside",
        "status",
        "join(ed)? (stream )?(after rollback|0{8})|first after rollback",
        "^200 -> 404",
    ),
    Known(
        "different",
        "says who was cancelled in words of its own",
        r"\$\.error\.message",
        "thread after (interrupt|many 0)",
    ),
    Known(
        "better",
        "A rolled back run leaves its thread as it was",
        r"\$\.(error|status)",
        "thread after (rollback|many 1)",
        "UserRollback.* -> None|busy -> idle",
    ),
    Known(
        "better",
        "a batch's runs say their `graph_id`",
        r"\$(\[\])?\.metadata\.graph_id",
        "odd: payloads|^runs_make_threads: kept$",
    ),
    Known(
        "better", "The run may be `running` already", r"\$(\[\])?\.status", "odd: payloads|: kept$"
    ),
    Known(
        "different",
        "`kwargs` of a run: what the caller said",
        r"\$\.kwargs\.config\.metadata\.(assistant_id|created_by|graph_id|mark|run_attempt)",
        "^runs_are_made: .*background config=|^runs_make_threads: kept$",
    ),
    Known(
        "different",
        "422 with a sentence: they would have no effect",
        "status",
        "background langsmith_tracing",
        _TAKEN,
    ),
    Known(
        "better",
        "of a background run, `checkpoint_during`",
        "status",
        "on_disconnect='cancel'|on_completion='delete'",
        _TAKEN,
    ),
    Known("same", "`after_seconds` up to a year", "status", r"after_seconds=1\d+", _TAKEN),
    # Threads
    Known("better", "`ttl` is minutes above 0", "status", r"^threads_are_\w+: odd: ttl=", _TAKEN),
    Known("better", "leave no thread; there it is 201", "status", ": no graph$", "^200 -> 400"),
    Known(
        "better",
        "find a thread there, and not its state",
        r"\$(\.\w+)*|\$\[\]",
        r"^threads_are_named_oddly: (state|history) (11111111|\{the-id\}|urn:uuid:)",
        r"^(None|\(absent\)|0 items) -> ",
    ),
    Known("better", "409 `Conflict` for unknown", "status", "unknown: thread_id=", "400.*-> 409"),
    Known("better", "`values` works", "status", r": (by|odd): values=\{", r"^500.* -> 200$"),
    Known("better", "`ids` that are no UUIDs find nothing", "status", "odd: ids=", "400.*-> 200$"),
    Known("better", "a path that cannot be read is 422", "status", "extract=.*a.x", _TAKEN),
    Known("better", "another word is 422", "status", "odd: include=", _TAKEN),
    Known("better", "shows its values at once", r"\$\.values", "threads_are_kept: the copy"),
    Known(
        "better",
        "ids that are none are passed over",
        "status",
        r"odd: (thread_ids=\['not-a-uuid|strategy='keep_latest)",
        "^422.* -> 200$",
    ),
    Known(
        "different",
        "`error` and `interrupts` are there from the first state on",
        r"\$\.(error|interrupts)",
        r"left by (input=None|command=\{\})|thread after (rollback|many 1)",
        r"^\(absent\) -> ",
    ),
    Known(
        "better",
        "without what the graph's defaults add",
        r"\$\.values\.messages",
        r"left by input=\{'messages'",
        r"^\[\] -> \(absent\)$",
    ),
    Known("better", "code does not take are 422", "status", r"change values=", r"^500.* -> 422"),
    Known("better", "A checkpoint that is not there is 404", "status", "change at", "^200 -> 404"),
    Known(
        "better",
        "A `checkpoint.thread_id` that is not the path's is 422",
        "status",
        r"change at \{'thread_id'",
        _TAKEN,
    ),
    Known("better", "0 is an empty list", "status", "states_are_read: odd: .*limit", _FOUND),
    Known("better", "`before` may be an id", "status", "odd: before=", _FOUND),
    # Assistants
    Known(
        "better",
        "What is not given stays",
        r"\$(\[\])?\.(config\.(configurable|tags)|context\.a)",
        "^assistants_are_changed: (update|versions) ",
    ),
    Known(
        "better",
        "brings back all that the version said",
        r"\$\.(context\.\w|graph_id)",
        "^assistants_are_changed: back ",
    ),
    Known(
        "better",
        "a filter that finds none is an empty list",
        "status",
        r"^assistants_are_kept: odd: metadata=\{'x': 1\}",
        "^404.* -> 200$",
    ),
    Known(
        "better",
        "An unknown graph finds nothing",
        "status",
        "odd: graph_id='nobody'",
        "^404.* -> 200$",
    ),
    Known(
        "better",
        "A graph's name is its first assistant",
        "status",
        "assistants_are_kept: odd: assistant_id='agent'",
        "^422.* -> 200$",
    ),
    Known(
        "better",
        "By a graph's name too; `a",
        "status",
        "assistants_are_kept: odd: (namespace|recurse)=",
        "^422.* -> (200|404)",
    ),
    Known(
        "better",
        "also of states written with `typing.TypedDict`",
        "status",
        "^assistants_are_kept: odd: assistant_id='[0-9a-f-]{36}'",
        "^500.* -> 200$",
    ),
    Known("better", "`0` is as false", "status", "odd: xray=0", "^422.* -> 200$"),
    # Store
    Known("better", "a key that is empty", "status", r"(key|delete): key=''", _TAKEN),
    Known("better", "`ttl` is above 0", "status", "items_are_stored: ttl: ttl=", _TAKEN),
    Known("same", "Without `store.index`, paths are 422", "status", "index: index=", _TAKEN),
    Known("better", "`query` needs `store.index` (422 without)", "status", "query: query=", _TAKEN),
    Known(
        "better",
        "an object without operators, whose keys are compared",
        "status",
        r"filter: filter=\{'n': \{'a'",
        _TAKEN,
    ),
    Known(
        "better",
        "there a missing key counts as `null`",
        r"\$\.items\[\]",
        r"filter: filter=\{'nobody': ",
    ),
    Known(
        "better",
        "Comparisons of values of several types work",
        "status",
        r"filter: filter=\{'n': \{'\$gt': 'text|: everywhere$",
        r"^(400|500).* -> 200$",
    ),
    Known("better", "there only the last one counts", r"\$", r"get of \w+\.\w+\.o$", "^None -> "),
    Known("better", "an empty label is 422", "status", r"get of \.x$", "^200 -> 422"),
    Known(
        "better", "`limit=0` finds nothing", r"\$\.items\[\]", "items_are_stored: limit: limit=0"
    ),
    Known(
        "different",
        "Latest change first",
        r"\$\.items\[\]\.(key|value\.n)",
        "items_are_stored: (order|limit: limit=10|query: query='')$",
    ),
    # System
    Known(
        "better",
        "404 and 405 say what to change",
        "status",
        "routes_are_asked_oddly: (OPTIONS|DELETE|PUT) /(ok|info)$",
        "^404.* -> 405",
    ),
    Known(
        "better",
        "A door that is not open is 404 `door_closed`",
        "status",
        "^other_protocols_are_spoken",
        "-> 404",
    ),
    Known(
        "different",
        "415: a page of another origin can send them unasked",
        "status",
        "^routes_are_asked_oddly: (no type|text|form)$",
        "-> 415",
    ),
    Known("better", "422 with the limit that was met", "status", ": deep$", _TAKEN),
    Known("better", "404 and 405 say what to change", "status", "GET /threads/$", "-> 404"),
    Known(
        "better",
        "the client is redirected to the path without it",
        r"headers\.location",
        r"GET /threads/\$thread/$",
    ),
    Known(
        "different",
        "A checkpoint has only the ids of `configurable`",
        r"\$\.metadata\.(a|model_name)",
        "^runs_are_made: state after background",
    ),
]
