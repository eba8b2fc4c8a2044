-- `device_v1` also says which key a device has now: what a board said with another one is another board's past.

SET LOCAL search_path TO registry;

CREATE OR REPLACE VIEW device_v1 AS
    SELECT d.tenant_id, d.device_id, d.hardware_id, d.board, d.revoked_at,
           coalesce(r.keyset_version, 0) AS keyset_version, d.labels, d.created_at, d.key_digest
    FROM devices d LEFT JOIN reports r USING (device_id);
