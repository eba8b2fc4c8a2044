-- Memory of applications as it was when they crashed: begun by the first message of it, filled from the first byte on. Its report may come
-- before or after. Row-level policies as those of V2.

SET LOCAL search_path TO logs;

-- As the device says.
ALTER TABLE crashes ADD COLUMN memory_bytes bigint NOT NULL DEFAULT 0 CHECK (memory_bytes BETWEEN 0 AND 65536);
ALTER TABLE crashes ADD COLUMN memory_missed bigint NOT NULL DEFAULT 0;

CREATE TABLE crash_memories (
    -- In the order in which they were begun.
    memory_key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    counter bigint NOT NULL,
    -- The 64 random bits, as a signed number.
    random bigint NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    receive_time timestamptz NOT NULL,
    total bigint NOT NULL CHECK (total BETWEEN 1 AND 65536),
    -- Address and length of each, little-endian words.
    pieces bytea NOT NULL CHECK (octet_length(pieces) IN (8, 16, 24)),
    -- Without a gap. Its row lock orders what is stored.
    stored bigint NOT NULL DEFAULT 0 CHECK (stored BETWEEN 0 AND total),
    UNIQUE (device_id, counter, random, sequence)
);
CREATE INDEX crash_memories_of_device ON crash_memories (device_id, memory_key);
CREATE INDEX crash_memories_by_age ON crash_memories (receive_time);

CREATE TABLE crash_memory_chunks (
    memory_key bigint NOT NULL REFERENCES crash_memories ON DELETE CASCADE,
    first_byte bigint NOT NULL CHECK (first_byte >= 0),
    tenant_id text COLLATE "C" NOT NULL,
    data bytea NOT NULL CHECK (octet_length(data) BETWEEN 1 AND 1024),
    PRIMARY KEY (memory_key, first_byte)
);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['crash_memories', 'crash_memory_chunks']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING ((SELECT current_setting(''app.tenant'', true)) '
            'IN (tenant_id, ''*''))', t);
    END LOOP;
END $$;
