"""headrace as the clients people have see it."""
