CREATE TABLE ota.probe (
    tenant_id text NOT NULL,
    name text NOT NULL CONSTRAINT probe_name UNIQUE
);
ALTER TABLE ota.probe ENABLE ROW LEVEL SECURITY;
ALTER TABLE ota.probe FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON ota.probe USING (current_setting('app.tenant', true) IN (tenant_id, '*'));
