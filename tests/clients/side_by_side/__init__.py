"""The same steps against headrace and against the official server, and how the answers differ."""
