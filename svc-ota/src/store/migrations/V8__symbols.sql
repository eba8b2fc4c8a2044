-- The ELF file each bundle was made from, if somebody sent it. `object` is its S3 key, written by one upload and never again. A bundle is
-- not deleted before its file was let go of: the reference says so.

SET LOCAL search_path TO ota;

CREATE TABLE symbols (
    tenant_id text COLLATE "C" NOT NULL,
    manifest_digest bytea NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    size bigint NOT NULL CHECK (size BETWEEN 1 AND 33554432),
    object text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, manifest_digest),
    FOREIGN KEY (tenant_id, manifest_digest) REFERENCES bundles (tenant_id, manifest_digest)
);

ALTER TABLE symbols ENABLE ROW LEVEL SECURITY;
ALTER TABLE symbols FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON symbols USING ((SELECT current_setting('app.tenant', true)) IN (tenant_id, '*'));
