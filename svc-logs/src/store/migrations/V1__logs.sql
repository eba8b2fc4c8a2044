-- Schema `logs`: what devices said. Owned by svc-logs; it reads registry.device_v1 and nothing else of another's.
--
-- Row-level policy by `app.tenant`, set in each transaction: a tenant id, or '*' for ingest and sweeps. FORCE,
-- because the service's role owns the tables.

SET LOCAL search_path TO logs;

-- One start of one device. Its row lock orders everything that is stored for it.
CREATE TABLE boots (
    boot_key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    counter bigint NOT NULL,
    -- The 64 random bits, as a signed number.
    random bigint NOT NULL,
    -- Every sequence up to this one is stored or known lost: what the device is told.
    stored_up_to bigint NOT NULL DEFAULT 0 CHECK (stored_up_to >= 0),
    -- Lost sequences at the end of that prefix, to be reported with the next record.
    owed bigint NOT NULL DEFAULT 0 CHECK (owed >= 0),
    -- Rises with every transaction that stores records; tails resume by it.
    version bigint NOT NULL DEFAULT 0,
    records bigint NOT NULL DEFAULT 0,
    -- As the device counts its own drops.
    dropped bigint NOT NULL DEFAULT 0,
    first_receive_time timestamptz NOT NULL,
    last_receive_time timestamptz NOT NULL,
    UNIQUE (device_id, counter, random)
);
CREATE INDEX boots_by_age ON boots (first_receive_time);

CREATE TABLE records (
    boot_key bigint NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    tenant_id text COLLATE "C" NOT NULL,
    -- boots.version of the transaction that stored it.
    version bigint NOT NULL,
    uptime_us bigint NOT NULL,
    receive_time timestamptz NOT NULL,
    -- 1 error, 2 warn, 3 info, 4 debug
    level smallint NOT NULL CHECK (level BETWEEN 1 AND 4),
    -- 1 microvisor, 2 app
    source smallint NOT NULL CHECK (source BETWEEN 1 AND 2),
    gap_before bigint NOT NULL CHECK (gap_before >= 0),
    text text NOT NULL,
    PRIMARY KEY (boot_key, sequence)
);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['boots', 'records']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (current_setting(''app.tenant'', true) '
            'IN (tenant_id, ''*''))', t);
    END LOOP;
END $$;
