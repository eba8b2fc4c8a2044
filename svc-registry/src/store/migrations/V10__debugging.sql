-- Where debugging is forbidden: for a tenant, for the devices that carry a label, for one device. It is allowed unless one of them forbids
-- it. svc-debug-relay enforces it and reads nothing but the view.

SET LOCAL search_path TO registry;

-- `…_by`: resource name of the key that forbade it.
ALTER TABLE tenants
    ADD COLUMN debugging_forbidden_at timestamptz,
    ADD COLUMN debugging_forbidden_by text CHECK ((debugging_forbidden_by IS NULL) = (debugging_forbidden_at IS NULL));
ALTER TABLE devices
    ADD COLUMN debugging_forbidden_at timestamptz,
    ADD COLUMN debugging_forbidden_by text CHECK ((debugging_forbidden_by IS NULL) = (debugging_forbidden_at IS NULL));
CREATE INDEX devices_not_debugged ON devices (tenant_id, device_id) WHERE debugging_forbidden_at IS NOT NULL;

CREATE TABLE debug_labels (
    tenant_id text COLLATE "C" NOT NULL REFERENCES tenants,
    key text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    forbidden_at timestamptz NOT NULL,
    forbidden_by text NOT NULL,
    PRIMARY KEY (tenant_id, key, value)
);
ALTER TABLE debug_labels ENABLE ROW LEVEL SECURITY;
ALTER TABLE debug_labels FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON debug_labels USING ((SELECT current_setting('app.tenant', true)) IN (tenant_id, '*'));

ALTER TABLE changes DROP CONSTRAINT changes_kind_check, ADD CONSTRAINT changes_kind_check CHECK (kind IN ('created', 'reported', 'labels',
    'rekeyed', 'revoked', 'deleted', 'quarantined', 'released', 'replaced', 'debugging'));

-- A contract, as those of V1: one row for each thing that forbids to debug a device; none: it is allowed. `forbidden_by` is tenant, label or
-- device; of a label its key and value.
CREATE VIEW debug_ban_v1 AS
    SELECT d.tenant_id, d.device_id, 'tenant'::text AS forbidden_by, NULL::text COLLATE "C" AS label_key,
           NULL::text COLLATE "C" AS label_value
    FROM devices d JOIN tenants t USING (tenant_id) WHERE t.debugging_forbidden_at IS NOT NULL
    UNION ALL
    SELECT l.tenant_id, l.device_id, 'label'::text, l.key, l.value
    FROM device_labels l JOIN debug_labels b ON b.tenant_id = l.tenant_id AND b.key = l.key AND b.value = l.value
    UNION ALL
    SELECT d.tenant_id, d.device_id, 'device'::text, NULL::text COLLATE "C", NULL::text COLLATE "C"
    FROM devices d WHERE d.debugging_forbidden_at IS NOT NULL;

GRANT SELECT ON debug_ban_v1 TO holdfast_debug;
