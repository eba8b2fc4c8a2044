-- A hello counts as long as the device has the key it was said with: a board that was enrolled anew, its flash empty, counts its boots from
-- one again. Links without a key are void; the next hello makes them anew.

ALTER TABLE device_links ADD COLUMN key_digest bytea NOT NULL DEFAULT '';
