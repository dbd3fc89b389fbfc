-- API keys of the database. Processes remember keys, and ask again which of them are revoked.

-- name: read
-- The keys with these prefixes.
SELECT prefix, sha256, tenant, owner, scopes, extract(epoch FROM expires_at)::float8,
  revoked_at IS NOT NULL
FROM api_keys
WHERE prefix = ANY (%(prefixes)s::text[])

-- name: gone
-- Which of these keys are valid no longer. A key never changes but for its revocation.
SELECT given.prefix
FROM unnest(%(prefixes)s::text[]) AS given (prefix)
WHERE NOT EXISTS (
  SELECT FROM api_keys WHERE api_keys.prefix = given.prefix AND api_keys.revoked_at IS NULL)

-- name: any_valid
-- Whether any key opens.
SELECT EXISTS (
  SELECT FROM api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()))

-- name: note_used
-- Notes that keys were used, each once in a minute at most, by whichever process comes first.
UPDATE api_keys SET last_used_at = now()
WHERE prefix = ANY (%(prefixes)s::text[])
  AND (last_used_at IS NULL OR last_used_at < now() - interval '60 seconds')

-- name: create
INSERT INTO api_keys (id, prefix, sha256, name, tenant, owner, scopes, expires_at)
VALUES (%(id)s, %(prefix)s, %(sha256)s, %(name)s, %(tenant)s, %(owner)s, %(scopes)s,
  %(expires_at)s)
RETURNING id, prefix, name, tenant, owner, scopes, created_at, expires_at, revoked_at, last_used_at

-- name: list
-- The newest first. Without ``all``: those that open.
SELECT id, prefix, name, tenant, owner, scopes, created_at, expires_at, revoked_at, last_used_at
FROM api_keys
WHERE (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
  AND (%(all)s OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())))
ORDER BY created_at DESC, id DESC
LIMIT %(limit)s

-- name: revoke
-- The first revocation stands.
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())
WHERE prefix = ANY (%(prefixes)s::text[])
RETURNING id, prefix, name, tenant, owner, scopes, created_at, expires_at, revoked_at, last_used_at
