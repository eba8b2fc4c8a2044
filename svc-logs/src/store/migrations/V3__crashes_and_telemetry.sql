-- How applications ended, and what they published. Row-level policies as those of V2.

SET LOCAL search_path TO logs;

CREATE TABLE crashes (
    -- In the order in which reports were stored.
    crash_key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    counter bigint NOT NULL,
    -- The 64 random bits, as a signed number.
    random bigint NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    uptime_us bigint NOT NULL,
    receive_time timestamptz NOT NULL,
    -- SHA-256, or nothing.
    manifest_digest bytea NOT NULL CHECK (octet_length(manifest_digest) IN (0, 32)),
    version text NOT NULL,
    -- As CrashKind of device.proto numbers them.
    kind smallint NOT NULL CHECK (kind > 0),
    -- 17 words, little-endian, or nothing; and which of them are known.
    registers bytea NOT NULL CHECK (octet_length(registers) IN (0, 68)),
    registers_known bigint NOT NULL,
    -- CFSR, HFSR, SFSR, MMFAR, BFAR, SFAR, EXC_RETURN.
    fault_status bigint[] NOT NULL CHECK (cardinality(fault_status) = 7),
    stack_at bigint NOT NULL,
    stack bytea NOT NULL CHECK (octet_length(stack) <= 1024),
    -- As the device counts what it could not keep.
    dropped bigint NOT NULL,
    UNIQUE (device_id, counter, random, sequence)
);
CREATE INDEX crashes_of_device ON crashes (device_id, crash_key);
CREATE INDEX crashes_of_tenant ON crashes (tenant_id, crash_key);
CREATE INDEX crashes_of_bundle ON crashes (tenant_id, manifest_digest, crash_key);
CREATE INDEX crashes_by_age ON crashes (receive_time);

-- One device that published something. Its row lock orders what is stored for it.
CREATE TABLE telemetry_devices (
    device_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    -- Position of the newest message; positions count from 1 without a gap, and tails resume by them.
    stored_up_to bigint NOT NULL DEFAULT 0 CHECK (stored_up_to >= 0),
    last_receive_time timestamptz NOT NULL
);

CREATE TABLE telemetry (
    device_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL CHECK (position > 0),
    tenant_id text COLLATE "C" NOT NULL,
    counter bigint NOT NULL,
    random bigint NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    uptime_us bigint NOT NULL,
    receive_time timestamptz NOT NULL,
    content_type text COLLATE "C" NOT NULL,
    data bytea NOT NULL CHECK (octet_length(data) BETWEEN 1 AND 1024),
    dropped bigint NOT NULL,
    PRIMARY KEY (device_id, position),
    UNIQUE (device_id, counter, random, sequence)
);
CREATE INDEX telemetry_by_age ON telemetry (receive_time);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['crashes', 'telemetry_devices', 'telemetry']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING ((SELECT current_setting(''app.tenant'', true)) '
            'IN (tenant_id, ''*''))', t);
    END LOOP;
END $$;
