-- Calls that callers gave a name (AIP-155), and what came of each; kit::once reads and writes it.

SET LOCAL search_path TO ota;

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

ALTER TABLE requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE requests FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON requests USING ((SELECT current_setting('app.tenant', true)) IN (tenant_id, '*'));
