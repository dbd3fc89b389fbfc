-- A receipt is a row among the idempotency keys, where requests have no key: without a tenant. If
-- nobody deletes it, it is swept with them.

-- name: write_receipt
-- Also delete receipts that nobody will ask for any more.
WITH told AS (
  DELETE FROM idempotency_keys
  WHERE tenant = '' AND route = 'receipt' AND key = ANY(%(told)s::text[])
)
INSERT INTO idempotency_keys (tenant, route, key, body_sha256, thread_id)
VALUES ('', 'receipt', %(key)s, '', 'committed')

-- name: write_void
-- This waits while the transaction with the receipt is not decided, and it can no longer commit
-- afterwards.
INSERT INTO idempotency_keys (tenant, route, key, body_sha256, thread_id)
VALUES ('', 'receipt', %(key)s, '', 'void')
ON CONFLICT DO NOTHING

-- name: read_receipt
SELECT thread_id = 'committed' FROM idempotency_keys
WHERE tenant = '' AND route = 'receipt' AND key = %(key)s
FOR UPDATE
