-- The life of an identity: two boards that are one device, replacements, certificates that a newer one ends, and more than one device root.

SET LOCAL search_path TO registry;
SET LOCAL app.tenant = '*';

ALTER TABLE devices
    ADD COLUMN quarantined_at timestamptz,
    -- Device ids: whose place it took, and who took its own.
    ADD COLUMN replaces text COLLATE "C",
    ADD COLUMN replaced_by text COLLATE "C",
    -- Key digest of the intermediate that issued `leaf`.
    ADD COLUMN leaf_issuer bytea CHECK (length(leaf_issuer) = 32),
    -- SHA-256 and issuer of the certificate before it, until the device has shown the new one.
    ADD COLUMN leaf_before bytea CHECK (length(leaf_before) = 32),
    ADD COLUMN leaf_before_issuer bytea CHECK (length(leaf_before_issuer) = 32);
UPDATE devices d SET leaf_issuer = (SELECT i.key_digest FROM intermediates i WHERE i.tenant_id = d.tenant_id) WHERE leaf IS NOT NULL;
CREATE INDEX devices_quarantined ON devices (tenant_id, device_id) WHERE quarantined_at IS NOT NULL;
CREATE INDEX devices_by_issuer ON devices ((coalesce(leaf_before_issuer, leaf_issuer))) WHERE revoked_at IS NULL;

-- What is kept to notice two boards that are one device (model::lives): written when a boot begins, and only then.
CREATE TABLE lives (
    device_id text COLLATE "C" PRIMARY KEY REFERENCES devices ON DELETE CASCADE,
    tenant_id text COLLATE "C" NOT NULL,
    challenge bytea NOT NULL CHECK (length(challenge) = 16),
    -- The challenge of what this followed; empty: nothing was kept.
    before bytea NOT NULL,
    -- The boot that is now, then those that are over, newest first: 4 bytes of counter and 8 random ones of each.
    boots bytea NOT NULL CHECK (length(boots) BETWEEN 12 AND 96 AND length(boots) % 12 = 0)
);
ALTER TABLE lives ENABLE ROW LEVEL SECURITY;
ALTER TABLE lives FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON lives USING ((SELECT current_setting('app.tenant', true)) IN (tenant_id, '*'));

ALTER TABLE changes DROP CONSTRAINT changes_kind_check, ADD CONSTRAINT changes_kind_check CHECK (kind IN ('created', 'reported', 'labels',
    'rekeyed', 'revoked', 'deleted', 'quarantined', 'released', 'replaced'));

-- Several device roots at once: the newest that brokers have had time to learn of issues, those not retired are trusted. The
-- associated data of a sealed key names its row: registry.roots/{kind}, and with `sealed_by_key` /{key digest} after it.
ALTER TABLE roots DROP CONSTRAINT roots_pkey, ADD PRIMARY KEY (key_digest), ADD COLUMN retired_at timestamptz,
    ADD COLUMN sealed_by_key boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX roots_enroll ON roots (kind) WHERE kind = 'enroll';

-- One intermediate a tenant and root; registry.intermediates/{tenant} likewise.
ALTER TABLE intermediates DROP CONSTRAINT intermediates_pkey, ADD PRIMARY KEY (key_digest),
    ADD COLUMN root bytea CHECK (length(root) = 32), ADD COLUMN sealed_by_key boolean NOT NULL DEFAULT false;
UPDATE intermediates SET root = (SELECT r.key_digest FROM roots r WHERE r.kind = 'device');
CREATE UNIQUE INDEX intermediates_by_tenant ON intermediates (tenant_id, root);

-- Services tell a device in quarantine nothing and take nothing from it; it may come back.
CREATE OR REPLACE VIEW device_v1 AS
    SELECT d.tenant_id, d.device_id, d.hardware_id, d.board, d.revoked_at,
           coalesce(r.keyset_version, 0) AS keyset_version, d.labels, d.created_at, d.key_digest, d.quarantined_at, d.replaces
    FROM devices d LEFT JOIN reports r USING (device_id);
