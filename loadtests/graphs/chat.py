"""The built-in graph under its own name: a manifest serves only what it names."""

from headrace.graphs.chat import build_chat

chat = build_chat("")
