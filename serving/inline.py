"""JSON schemas with their parts in place."""

from typing import Any


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """For a request body in an OpenAPI, which has no place for a schema's own definitions."""
    parts = schema.pop("$defs", {})

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return put(parts[value["$ref"].rpartition("/")[2]])
            return {key: put(item) for key, item in value.items()}
        return [put(item) for item in value] if isinstance(value, list) else value

    found: dict[str, Any] = put(schema)
    return found
