-- Schema `debug`: debug sessions and who used them; sizes and times, never a frame. Owned by svc-debug-relay; it reads
-- registry.device_v1 and nothing else of another's.
--
-- Row-level policy by `app.tenant`, set in each transaction: a tenant id, or '*' for the relay's own loops. FORCE, because
-- the service's role owns the tables. The scope is read once a statement: a sub-select without a reference outwards.

SET LOCAL search_path TO debug;

-- One relay process holds a session at a time: it took it by raising `epoch`, and every write of its names that epoch.
CREATE TABLE sessions (
    session_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    creator text NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    end_reason text CHECK ((end_reason IS NULL) = (state = 'open')),
    idle_ms bigint NOT NULL CHECK (idle_ms > 0),
    total_ms bigint NOT NULL CHECK (total_ms > 0),
    create_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    last_frame_time timestamptz NOT NULL,
    end_time timestamptz,
    epoch bigint NOT NULL DEFAULT 0 CHECK (epoch BETWEEN 0 AND 4294967295),
    relay_id text COLLATE "C",
    -- Where other relay processes reach the holder.
    relay_url text,
    lease_until timestamptz,
    -- The boot of the device it began with; the 64 random bits as a signed number.
    boot_counter bigint,
    boot_random bigint,
    frames_up bigint NOT NULL DEFAULT 0,
    bytes_up bigint NOT NULL DEFAULT 0,
    frames_down bigint NOT NULL DEFAULT 0,
    bytes_down bigint NOT NULL DEFAULT 0
);
-- A device's stub serves one session.
CREATE UNIQUE INDEX sessions_of_device ON sessions (device_id) WHERE state = 'open';
CREATE INDEX sessions_by_tenant ON sessions (tenant_id, session_id);
CREATE INDEX sessions_open ON sessions (expire_time) WHERE state = 'open';
CREATE INDEX sessions_by_age ON sessions (end_time) WHERE state = 'closed';

-- Who is attached now. A row becomes an event of kind `detached` when it goes, whoever removes it.
CREATE TABLE attachments (
    attachment_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL REFERENCES sessions ON DELETE CASCADE,
    epoch bigint NOT NULL,
    subject text NOT NULL,
    role text NOT NULL CHECK (role IN ('writer', 'watcher')),
    start_time timestamptz NOT NULL,
    frames_up bigint NOT NULL DEFAULT 0,
    bytes_up bigint NOT NULL DEFAULT 0,
    frames_down bigint NOT NULL DEFAULT 0,
    bytes_down bigint NOT NULL DEFAULT 0
);
CREATE INDEX attachments_of_session ON attachments (session_id);

-- What happened; only ever added to, until it is too old.
CREATE TABLE events (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    time timestamptz NOT NULL,
    kind text NOT NULL CHECK (kind IN ('created', 'attached', 'detached', 'denied', 'ended')),
    subject text NOT NULL DEFAULT '',
    role text CHECK (role IN ('writer', 'watcher')),
    start_time timestamptz,
    reason text,
    denial text NOT NULL DEFAULT '',
    frames_up bigint NOT NULL DEFAULT 0,
    bytes_up bigint NOT NULL DEFAULT 0,
    frames_down bigint NOT NULL DEFAULT 0,
    bytes_down bigint NOT NULL DEFAULT 0
);
CREATE INDEX events_by_tenant ON events (tenant_id, event_id);
CREATE INDEX events_of_session ON events (session_id, event_id);
CREATE INDEX events_by_age ON events (time);

-- Calls that callers gave a name (AIP-155), and what came of each; kit::once reads and writes it.
CREATE TABLE requests (
    tenant_id text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    -- SHA-256 of the method and the request.
    digest bytea NOT NULL CHECK (length(digest) = 32),
    outcome text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
);
CREATE INDEX requests_by_age ON requests (created_at);

-- The holder looks at once when somebody else ended or took a session.
CREATE FUNCTION notify_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('debug_session', NEW.session_id);
    RETURN NULL;
END $$;
CREATE TRIGGER sessions_notify AFTER UPDATE OF state, epoch ON sessions FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.epoch IS DISTINCT FROM NEW.epoch)
    EXECUTE FUNCTION notify_session();

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['sessions', 'attachments', 'events', 'requests']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING ((SELECT current_setting(''app.tenant'', true)) '
            'IN (tenant_id, ''*''))', t);
    END LOOP;
END $$;
