"""The settings of the limits on requests and answers."""

from pydantic import Field

from headrace.setting_groups import Group


class RequestSettings(Group):
    """Limits on one request (docs/limits.md)."""

    at_once: int = Field(
        200,
        ge=1,
        description="Requests that a process works on at once until their answers begin, at most;"
        " fewer while its event loop is behind. The others wait.",
    )
    loop_delay_seconds: float = Field(
        0.006,
        gt=0,
        description="While the event loop is later than this, fewer requests begin.",
    )
    wait_seconds: float = Field(
        5.0, gt=0, description="How long a request waits until it may begin; then 503."
    )
    max_waiting: int = Field(
        1000, ge=1, description="Requests that may wait to begin; more get 503 at once."
    )
    max_body_values: int = Field(
        500_000,
        ge=1000,
        description="Numbers, texts, lists and objects of one body; more get 422.",
    )
    max_body_depth: int = Field(
        128,
        ge=8,
        le=128,
        description="Levels of lists and objects of one body; more get 422.",
    )
    max_list_items: int = Field(
        50_000,
        ge=100,
        description="Texts, lists and objects of one list of a body, for example messages; more"
        " get 422.",
    )
    max_page_rows: int = Field(
        1000,
        ge=1,
        le=1000,
        description="The largest `limit` of a search or list; more gets 422.",
    )
    bodies_bytes: int = Field(
        128 * 1024 * 1024,
        ge=64 * 1024,
        description="Memory of a process for the bytes of bodies above 64 KiB, and as much again"
        " for what is parsed from them.",
    )
    bodies_wait_seconds: float = Field(
        5.0,
        gt=0,
        description="How long a large body waits for that memory while it comes, and again before"
        " it is parsed; then 503. While others wait, a body that brings less than 64 KiB in this"
        " time is refused.",
    )
    max_metadata_bytes: int = Field(
        64 * 1024,
        ge=256,
        description="Metadata of a run, thread or assistant as JSON; more gets 422.",
    )
    max_configuration_bytes: int = Field(
        256 * 1024,
        ge=256,
        description="`config`, and `context`, of a run or assistant as JSON; more gets 422.",
    )
    max_filter_values: int = Field(
        500,
        ge=1,
        description="Numbers, texts, lists and objects of one filter on metadata or values, or of"
        " the store; more get 422.",
    )
    max_filter_array: int = Field(
        100, ge=1, description="Items of one list of a filter; more get 422."
    )
    max_comparisons: int = Field(
        500_000,
        ge=1000,
        description="Comparisons that one filter on values may take; more get 422.",
    )
    max_recursion_limit: int = Field(
        10_000,
        ge=1,
        le=2**31 - 1,
        description="The largest `recursion_limit` that a run or assistant may ask for; more gets"
        " 422.",
    )
    strict_resume: bool = Field(
        False,
        description="Whether the answers of a resume are checked if the run does not say"
        " (`strict_resume`): they must name interrupts that wait.",
    )
    max_deadline_seconds: float = Field(
        86_400.0,
        gt=0,
        le=366 * 24 * 3600.0,
        description="The largest `deadline_seconds` that a run may ask for; more gets 422.",
    )
    list_timeout_seconds: float = Field(
        10.0,
        gt=0,
        description="How long Postgres may work on one list or count of threads or assistants, or"
        " on the timeline of a run; then 503.",
    )
    max_superstep_updates: int = Field(
        1000,
        ge=1,
        description="Updates of all supersteps of one new thread; more get 422.",
    )
    change_timeout_seconds: float = Field(
        10.0,
        gt=0,
        description="How long a new thread with supersteps may take, and a change of a state, which"
        " may never take more than 4 s; then 503, and nothing has changed.",
    )
    factory_timeout_seconds: float = Field(
        3.0,
        gt=0,
        description="How long the factory of a graph may take where a state is read or a graph is"
        " described. Then the state is shown without what only the graph knows.",
    )


class AnswerSettings(Group):
    """Limits on one answer, and on all answers of a process together (docs/limits.md)."""

    max_bytes: int = Field(
        32 * 1024 * 1024,
        ge=1024,
        description="A page of states, threads, runs or assistants ends where it would hold more"
        " bytes than this, and says where the next one begins; it has one of them at least. A page"
        " of store items gets 413.",
    )
    max_state_bytes: int = Field(
        128 * 1024 * 1024,
        ge=1024,
        description="A state of more bytes than this is not read: the answer is 413, or leaves the"
        " values out.",
    )
    max_filtered_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024,
        description="Bytes of values that one filter on values may look into; more gets 422.",
    )
    memory_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024 * 1024,
        description="Memory that the answers of a process with large states may take at once; a"
        " larger one waits until it is alone.",
    )
    wait_seconds: float = Field(
        5.0, gt=0, description="How long an answer waits for that memory before 503."
    )
    send_seconds: float = Field(
        60.0,
        gt=0,
        description="A client that takes longer over 4 MiB of a large answer is cut, so that it"
        " keeps that memory from nobody.",
    )
