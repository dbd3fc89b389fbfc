"""Names that vulture takes for dead and that are alive: somebody outside of src/ uses them by name.

`make check` runs vulture with this file beside src/; its statements are read and never run.
"""

from typing import Any

_: Any = None

# Python and its libraries ask for these names.
_.__getattr__, _.__dir__, _.__signature__, _.dump, _.as_bytes, _._ensure_task
_.run_inline, _.raise_error, _.ignore_chain, _.prompts  # LangChain's callback handlers
_.on_chat_model_start, _.on_llm_start, _.on_llm_end, _.on_llm_error
_._llm_type, _._generate, _._astream, _.run_manager  # LangChain's chat models
_.run_inline, _.on_chain_start, _.on_chain_end, _.on_chain_error  # LangChain's callbacks
_.on_chat_model_start, _.on_llm_start, _.on_llm_end, _.on_llm_error
_.on_tool_start, _.on_tool_end, _.on_tool_error, _.outputs, _.prompts, _.input_str
_.supports_ttl, _.acopy_thread, _.adelete_for_runs  # LangGraph's checkpointers
_.with_msgpack_allowlist, _.extra_allowlist  # LangGraph's serializers
_.autocommit, _.nonblocking, _._expire_at  # psycopg and its pool
_.settings_customise_sources, _.decode_complex_value, _._others  # pydantic-settings
_.handlers, _.levelname  # logging
_.redirect_slashes, _.middleware_stack  # Starlette
_.display_name, _.is_authenticated  # its users
_.data_received, _.keep_alive, _.disconnected, _.timeout_graceful_shutdown  # uvicorn
_.lifespan_class, _.http_protocol_class, _.ws_protocol_class, _.pong_timer
_.capture_signals, _.CONFIG_KWARGS
_.wait_closed, _.waiting_for_100_continue, _.ws_max_size, _.ws_ping_interval, _.ws_ping_timeout
_.forwarded_allow_ips
_._asyncio_future_blocking  # asyncio
_.on_starting, _.APP_LOAD_ERROR, _.when_ready, _.on_exit, _.child_exit  # gunicorn's hooks
_.pre_fork

# gunicorn, Alembic and users name these in strings.
_.ServerLogger, _.ServerProcess, _.create_app, _.include_name

# Migrations call these.
_.create_index_concurrently, _.drop_index_concurrently, _.record_versions

# Tables and columns that SQL reads and writes; Alembic compares the schema with them.
_.ApiKeyRow, _.sha256
_.ProcessRow, _.RunUsageRow, _.SchemaCompatRow, _.StoreIndexRow, _.StoreIndexPathsRow
_.WebhookDeliveryRow, _.type_annotation_map, _.rebuild
_.running_run_id, _.ready_at, _.ready_run_id, _.ready_graph_id, _.ready_caller
_.input_tokens, _.output_tokens, _.cached_tokens, _.reasoning_tokens
_.halted_status, _.sweep_at, _.pruned_at, _.hostname, _.heartbeat_at, _.lost, _.only_row
_.earlier_attempts, _.cancel_asked_at, _.cancel_reason, _.error_cause, _.due_at

# Fields of what is read from and written as JSON.
_.config_schema, _.edges, _.parent_checkpoint_id, _.channel_values, _.pending_writes
_.pruned_count, _.expires_at, _.webhook, _.feedback_keys, _.langsmith_tracer
_.disable_assistants, _.disable_threads, _.disable_runs, _.disable_store, _.disable_meta
_.disable_studio_auth, _.disable_mcp, _.disable_a2a, _.disable_ui, _.disable_webhooks
_.m, _.ef_construction
_.cached, _.reasoning, _.checkpoints_deleted
_.p50_seconds, _.p95_seconds, _.p99_seconds, _.holding, _.flushes, _.gc_collections

# Tests look at these; nothing else can show what they say.
_.kind_of, _.in_recovery, _.render, _.KEPT

# Endpoints find these by their class (edge/state.py).
_.assistant_graphs, _.thread_listing, _.thread_removal, _.timelines
_.protocol_commands, _.protocol_streams

# The calls of OpenTelemetry (tracing/open_spans.py).
_.record_exception
