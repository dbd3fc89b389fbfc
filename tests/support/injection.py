"""Texts that mean something to SQL, JSON paths, filters or shells, and fields to put them in."""

from collections.abc import Iterator
from typing import Any

#: Of none of them may a statement, a filter or a path become another one.
TEXTS = (
    "'",
    "''; DROP TABLE threads; --",
    "' OR '1'='1",
    "') OR true --",
    "1; SELECT pg_sleep(20)",
    "' || pg_sleep(20) || '",
    "' UNION SELECT current_user, version() --",
    "$$; DELETE FROM runs; $$",
    "\\'; COPY (SELECT 1) TO PROGRAM 'id'; --",
    "%",
    "_",
    "%%s %(tenant)s %s",
    "{0} {tenant} ${jndi:ldap://127.0.0.1/a}",
    '$.* ? (@ like_regex "(a+)+$")',
    "$[*]",
    "metadata->>'a'",
    "*",
    "../../etc/passwd",
    'a" : {"$ne": 1',
    "\u02bc OR 1=1",
    "\uff07 OR 1=1",
    "a\\",
    "__proto__",
    "; cat /etc/passwd",
)
OPERATORS = (
    "$ne",
    "$gt",
    "$exists",
    "$regex",
    "$where",
    "$or",
    "$not",
    "$in",
    "$contains",
    "@>",
    "||",
    "or",
)

Call = tuple[str, str, Any]
#: Paths of operations that look for rows.
_SEARCHING = ("/search", "/count", "/history", "/versions", "/namespaces", "/prune")


def calls(described: dict[str, Any], ids: dict[str, str]) -> Iterator[Call]:
    """Method, path with query, and body: each text in each field of each operation that searches,
    and in each parameter of a path or query.

    :param described: the OpenAPI of the server.
    :param ids: of rows that are there, by the names of parameters.
    """
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            parameters = operation.get("parameters", [])
            filled = path.format(**{name: ids.get(name, "x") for name in _names(path)})
            for one in parameters:
                if one["in"] == "query":
                    for text in TEXTS:
                        yield method.upper(), f"{filled}?{one['name']}={_quoted(text)}", None
                elif one["in"] == "path" and method == "get":
                    for text in TEXTS:
                        there = {**ids, one["name"]: _quoted(text)}
                        values = {name: there.get(name, "x") for name in _names(path)}
                        yield "GET", path.format(**values), None
            if method == "post" and path.endswith(_SEARCHING):
                for body in _bodies(described, operation):
                    yield "POST", filled, body


def is_filter(body: Any) -> bool:
    """Whether the body asks for rows whose metadata or values are those of an attack."""
    return isinstance(body, dict) and bool({"metadata", "values"} & set(body))


def _names(path: str) -> list[str]:
    return [part[1:].partition("}")[0].partition(":")[0] for part in path.split("/") if "{" in part]


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _bodies(described: dict[str, Any], operation: dict[str, Any]) -> Iterator[Any]:
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    forms = [_resolved(described, one) for one in schema.get("anyOf", [schema])]
    fields = {name: field for form in forms for name, field in form.get("properties", {}).items()}
    for name, field in fields.items():
        kinds = {_kind(described, one) for one in field.get("anyOf", [field])}
        for text in TEXTS:
            yield {name: text}
            if "array" in kinds:
                yield {name: [text]}
            if "object" in kinds or not kinds - {None}:
                yield {name: {text: 1}}
                yield {name: {"mark": text}}
                yield {name: {text: text}}
        if "object" in kinds or not kinds - {None}:
            for operator in OPERATORS:
                yield {name: {"mark": {operator: ""}}}
                yield {name: {operator: [{"mark": {operator: 1}}]}}


def _resolved(described: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: dict[str, Any] = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _kind(described: dict[str, Any], schema: dict[str, Any]) -> str | None:
    return _resolved(described, schema).get("type")
