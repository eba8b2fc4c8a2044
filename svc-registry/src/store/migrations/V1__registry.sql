-- Schema `registry`: who exists. Owned by svc-registry's role; no other service reads a table, they read the
-- views at the end, which only ever gain columns.
--
-- Every tenant's table carries tenant_id and a row-level policy by the setting `app.tenant`, set in each
-- transaction: a tenant id, or '*' for the service's own work across tenants (enrolment, hello, sweeps). Unset
-- means no rows. FORCE, because the service's role owns the tables.

SET LOCAL search_path TO registry;

CREATE TABLE tenants (
    tenant_id text COLLATE "C" PRIMARY KEY,
    display_name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What the installation has one of. The bootstrap code is kept as a SHA-256 and dies when used.
CREATE TABLE installation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    bootstrap_hash bytea,
    bootstrapped_at timestamptz
);
INSERT INTO installation DEFAULT VALUES;

-- Roots: 'device' signs tenant intermediates, 'enroll' signs claim and birth certificates. Sealed: kit::seal under
-- the master key, with the row's name as associated data.
CREATE TABLE roots (
    kind text PRIMARY KEY CHECK (kind IN ('device', 'enroll')),
    certificate bytea NOT NULL,
    key_digest bytea NOT NULL CHECK (length(key_digest) = 32),
    sealed_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Keys access tokens are signed with; the newest signs, all verify.
CREATE TABLE signing_keys (
    kid text PRIMARY KEY,
    public_point bytea NOT NULL CHECK (length(public_point) = 65),
    sealed_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE intermediates (
    tenant_id text COLLATE "C" PRIMARY KEY REFERENCES tenants,
    certificate bytea NOT NULL,
    key_digest bytea NOT NULL UNIQUE CHECK (length(key_digest) = 32),
    sealed_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE keys (
    key_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES tenants,
    display_name text NOT NULL,
    role text NOT NULL CHECK (role IN ('viewer', 'operator', 'developer', 'admin')),
    installation boolean NOT NULL DEFAULT false,
    public_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, public_key)
);

-- Assertions already exchanged for a token, until they would have expired anyway.
CREATE TABLE assertions (
    key_id text COLLATE "C" NOT NULL REFERENCES keys ON DELETE CASCADE,
    tenant_id text COLLATE "C" NOT NULL,
    jti text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (key_id, jti)
);
CREATE INDEX assertions_expiry ON assertions (expires_at);

CREATE TABLE claims (
    claim_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES tenants,
    display_name text NOT NULL,
    devices_max bigint NOT NULL CHECK (devices_max BETWEEN 1 AND 1000000),
    devices_enrolled bigint NOT NULL DEFAULT 0 CHECK (devices_enrolled BETWEEN 0 AND devices_max),
    certificate bytea NOT NULL,
    certificate_digest bytea NOT NULL CHECK (length(certificate_digest) = 32),
    key_digest bytea NOT NULL CHECK (length(key_digest) = 32),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX claims_by_tenant ON claims (tenant_id, claim_id);

-- One identity each. Of a hardware id's identities one is `current`: the one a board with that id is compared with.
-- `key_version` rises when the device's key is replaced by its old key's signature.
CREATE TABLE devices (
    device_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES tenants,
    hardware_id text NOT NULL,
    current boolean NOT NULL DEFAULT true,
    board text NOT NULL,
    key_digest bytea NOT NULL CHECK (length(key_digest) = 32),
    public_key bytea NOT NULL,
    labels jsonb NOT NULL DEFAULT '{}',
    claim_id text COLLATE "C",
    leaf bytea,
    leaf_issued_at timestamptz,
    leaf_expires_at timestamptz,
    birth bytea,
    birth_digest bytea CHECK (length(birth_digest) = 32),
    created_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revision bigint NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX devices_hardware ON devices (tenant_id, hardware_id) WHERE current;
CREATE UNIQUE INDEX devices_key ON devices (tenant_id, key_digest);
CREATE INDEX devices_by_tenant ON devices (tenant_id, device_id);
CREATE INDEX devices_by_birth ON devices (birth_digest);
CREATE INDEX devices_by_label ON devices USING gin (labels jsonb_path_ops);

-- Reported state: the newest hello that said something new.
CREATE TABLE reports (
    device_id text COLLATE "C" PRIMARY KEY REFERENCES devices ON DELETE CASCADE,
    tenant_id text COLLATE "C" NOT NULL,
    boot_count bigint NOT NULL,
    boot_random bytea NOT NULL CHECK (length(boot_random) = 8),
    connection bigint NOT NULL,
    sequence bigint NOT NULL,
    boot_reason text NOT NULL,
    board text NOT NULL,
    microvisor_version text NOT NULL,
    slots jsonb NOT NULL,
    app_version text,
    app_floor bigint NOT NULL,
    keyset_version integer NOT NULL,
    reported_at timestamptz NOT NULL
);
CREATE INDEX reports_by_version ON reports (tenant_id, app_version);

-- Every certificate this service signed for others: what an incident needs to name them.
CREATE TABLE certificates (
    serial bytea PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('claim', 'birth', 'leaf')),
    subject text COLLATE "C" NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    key_digest bytea NOT NULL CHECK (length(key_digest) = 32),
    issued_at timestamptz NOT NULL,
    expires_at timestamptz
);
CREATE INDEX certificates_by_subject ON certificates (subject);
CREATE INDEX certificates_expiry ON certificates (expires_at);

CREATE TABLE pending_enrollments (
    pending_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES tenants,
    hardware_id text NOT NULL,
    board text NOT NULL,
    key_digest bytea NOT NULL CHECK (length(key_digest) = 32),
    public_key bytea NOT NULL,
    claim_id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    asked_at timestamptz NOT NULL,
    UNIQUE (tenant_id, hardware_id, key_digest)
);
CREATE INDEX pending_by_tenant ON pending_enrollments (tenant_id, pending_id);
CREATE INDEX pending_by_age ON pending_enrollments (asked_at);

CREATE TABLE keysets (
    tenant_id text COLLATE "C" NOT NULL REFERENCES tenants,
    version integer NOT NULL CHECK (version > 0),
    signed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, version)
);

-- Identities whose connections must end: a row goes when every broker node has confirmed it.
CREATE TABLE disconnects (
    identity text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now()
);

-- The change feed. Rows commit out of `seq` order, and roll back: a reader goes on from the highest it saw and looks
-- at the holes below it again for a while. Rows live for a day.
CREATE TABLE changes (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    device text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('created', 'reported', 'labels', 'rekeyed', 'revoked', 'deleted')),
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX changes_by_age ON changes (at);

CREATE FUNCTION notify_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('registry_change', '');
    RETURN NULL;
END $$;
CREATE TRIGGER changes_notify AFTER INSERT ON changes FOR EACH STATEMENT EXECUTE FUNCTION notify_change();

-- Who did what, when. Actor: a key's resource name, or a service.
CREATE TABLE audit (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    target text NOT NULL
);
CREATE INDEX audit_by_tenant ON audit (tenant_id, seq);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['tenants', 'intermediates', 'keys', 'assertions', 'claims', 'devices', 'reports',
        'certificates', 'pending_enrollments', 'keysets', 'disconnects', 'changes', 'audit']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_setting(''app.tenant'', true) '
            'OR current_setting(''app.tenant'', true) = ''*'')', t);
    END LOOP;
END $$;

-- Contracts. Columns are only ever appended. The tables' policies hold through them: a reader sets `app.tenant`.
CREATE VIEW device_v1 AS
    SELECT d.tenant_id, d.device_id, d.hardware_id, d.board, d.revoked_at,
           coalesce(r.keyset_version, 0) AS keyset_version, d.labels, d.created_at
    FROM devices d LEFT JOIN reports r USING (device_id);

CREATE VIEW keyset_v1 AS SELECT tenant_id, version, signed FROM keysets;

CREATE VIEW change_v1 AS SELECT seq, device, kind, tenant_id FROM changes;

GRANT USAGE ON SCHEMA registry TO holdfast_ota, holdfast_logs;
GRANT SELECT ON device_v1, keyset_v1, change_v1 TO holdfast_ota, holdfast_logs;
