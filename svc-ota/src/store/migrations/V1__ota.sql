-- Schema `ota`: what should run. Owned by svc-ota's role; no other service reads a table of it.
--
-- Every table carries tenant_id and a row-level policy by the setting `app.tenant`, set in each transaction: a tenant
-- id, or '*' for the service's own work across tenants (messages of devices, sweeps). Unset means no rows. FORCE,
-- because the service's role owns the tables. No grants to anyone.

CREATE TABLE bundles (
    bundle_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    manifest_digest bytea NOT NULL CHECK (length(manifest_digest) = 32),
    component text NOT NULL CHECK (component IN ('app', 'microvisor')),
    board text NOT NULL,
    version text NOT NULL,
    security_counter bigint NOT NULL CHECK (security_counter >= 0),
    size bigint NOT NULL CHECK (size >= 0),
    envelope bytea NOT NULL CHECK (length(envelope) <= 8192),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, manifest_digest)
);
CREATE INDEX bundles_by_tenant ON bundles (tenant_id, bundle_id);

-- One stored blob a digest and tenant. `object` is its S3 key, written by one upload and never again.
CREATE TABLE layers (
    tenant_id text COLLATE "C" NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    size bigint NOT NULL CHECK (size > 0),
    object text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, digest)
);

CREATE TABLE bundle_layers (
    bundle_id text COLLATE "C" NOT NULL REFERENCES bundles ON DELETE CASCADE,
    tenant_id text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (bundle_id, digest),
    FOREIGN KEY (tenant_id, digest) REFERENCES layers
);
CREATE INDEX bundle_layers_by_layer ON bundle_layers (tenant_id, digest);

-- Open while bundle_id is null. A finished one stays until it expires, so that a repeated finish gets its answer.
CREATE TABLE uploads (
    upload_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    manifest_digest bytea NOT NULL CHECK (length(manifest_digest) = 32),
    envelope bytea NOT NULL CHECK (length(envelope) <= 8192),
    bundle_id text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX uploads_open ON uploads (tenant_id, manifest_digest) WHERE bundle_id IS NULL;
CREATE INDEX uploads_expiry ON uploads (expires_at);

-- `held`: the tenant had the layer already when the upload began; nothing is written.
CREATE TABLE upload_layers (
    upload_id text COLLATE "C" NOT NULL REFERENCES uploads ON DELETE CASCADE,
    tenant_id text COLLATE "C" NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    size bigint NOT NULL CHECK (size > 0),
    committed bigint NOT NULL DEFAULT 0 CHECK (committed BETWEEN 0 AND size),
    held boolean NOT NULL DEFAULT false,
    PRIMARY KEY (upload_id, digest)
);
CREATE INDEX upload_layers_by_layer ON upload_layers (tenant_id, digest);

-- What S3 holds of an unfinished layer: consecutive pieces from 0 to `committed`.
CREATE TABLE upload_chunks (
    upload_id text COLLATE "C" NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    start bigint NOT NULL CHECK (start >= 0),
    length bigint NOT NULL CHECK (length > 0),
    object text NOT NULL,
    PRIMARY KEY (upload_id, digest, start),
    FOREIGN KEY (upload_id, digest) REFERENCES upload_layers ON DELETE CASCADE
);

-- S3 keys, by prefix, that must go once `after` has passed. A row is written before an object nobody refers to yet is
-- put, or in the transaction that lets go of objects, and dies when S3 has said they are gone. From `taken` on the
-- objects are lost: nobody may begin to refer to them.
CREATE TABLE trash (
    trash_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    prefix text NOT NULL,
    after timestamptz NOT NULL,
    taken boolean NOT NULL DEFAULT false
);
CREATE INDEX trash_by_age ON trash (after);

-- The bundle's facts are copied: history outlives the bundle. (boot_count, boot_random, sequence) name the newest
-- report taken. `next_send_at` is when the sweep repeats what the device has not acknowledged; null: when it says
-- hello. `stopped`: a cancelled one's device needs no more telling.
CREATE TABLE deployments (
    deployment_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    bundle_id text COLLATE "C" NOT NULL,
    manifest_digest bytea NOT NULL CHECK (length(manifest_digest) = 32),
    component text NOT NULL,
    version text NOT NULL,
    security_counter bigint NOT NULL,
    bytes_total bigint NOT NULL,
    state text NOT NULL,
    reason text NOT NULL DEFAULT '',
    bytes_done bigint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    committed boolean NOT NULL DEFAULT false,
    stopped boolean NOT NULL DEFAULT false,
    boot_count bigint NOT NULL DEFAULT 0,
    boot_random bigint NOT NULL DEFAULT 0,
    sequence bigint NOT NULL DEFAULT 0,
    sent_at timestamptz,
    sends integer NOT NULL DEFAULT 0,
    next_send_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX deployments_unfinished ON deployments (device_id, component)
    WHERE state IN ('pending', 'fetching', 'verified', 'polite', 'ready', 'granted', 'installing', 'trial');
CREATE INDEX deployments_by_tenant ON deployments (tenant_id, deployment_id);
CREATE INDEX deployments_by_device ON deployments (device_id, deployment_id);
CREATE INDEX deployments_by_bundle ON deployments (bundle_id);
CREATE INDEX deployments_to_send ON deployments (next_send_at) WHERE next_send_at IS NOT NULL;

-- The newest hello that there was something to answer or record about; the nonce of quiet ones is in Redis only.
CREATE TABLE device_links (
    device_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    nonce bytea NOT NULL CHECK (length(nonce) = 16),
    boot_count bigint NOT NULL,
    boot_random bigint NOT NULL,
    sequence bigint NOT NULL,
    heard_at timestamptz NOT NULL,
    app_floor bigint NOT NULL DEFAULT 0,
    confirmed bytea[] NOT NULL DEFAULT '{}'
);
CREATE INDEX device_links_confirmed ON device_links USING gin (confirmed);

-- One director key a tenant. Sealed: kit::seal under the master key.
CREATE TABLE director_keys (
    tenant_id text COLLATE "C" PRIMARY KEY,
    public_key bytea NOT NULL,
    sealed_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Only a hint: the payload is `{deployment} {device} {state}`; whoever misses it finds the change by looking.
CREATE FUNCTION notify_deployment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('ota_deployment', NEW.deployment_id || ' ' || NEW.device_id || ' ' || NEW.state);
    RETURN NULL;
END $$;
CREATE TRIGGER deployments_made AFTER INSERT ON deployments FOR EACH ROW EXECUTE FUNCTION notify_deployment();
CREATE TRIGGER deployments_changed AFTER UPDATE ON deployments FOR EACH ROW
    WHEN ((OLD.state, OLD.reason, OLD.bytes_done, OLD.attempts, OLD.committed, OLD.sent_at IS NULL)
        IS DISTINCT FROM (NEW.state, NEW.reason, NEW.bytes_done, NEW.attempts, NEW.committed, NEW.sent_at IS NULL))
    EXECUTE FUNCTION notify_deployment();

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['bundles', 'layers', 'bundle_layers', 'uploads', 'upload_layers', 'upload_chunks', 'trash',
        'deployments', 'device_links', 'director_keys']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_setting(''app.tenant'', true) '
            'OR current_setting(''app.tenant'', true) = ''*'')', t);
    END LOOP;
END $$;
