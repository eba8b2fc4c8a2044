-- Reading: what a watch missed is read by tenant; devices are listed by filter in the order of their ids, from an index, whatever the filter.

SET LOCAL search_path TO registry;

CREATE INDEX changes_by_tenant ON changes (tenant_id, seq);

CREATE INDEX devices_by_board ON devices (tenant_id, board, device_id);
CREATE INDEX devices_by_hardware ON devices (tenant_id, hardware_id, device_id);
CREATE INDEX devices_revoked ON devices (tenant_id, device_id) WHERE revoked_at IS NOT NULL;
CREATE INDEX reports_by_app ON reports (tenant_id, app_version, device_id);
DROP INDEX reports_by_version;

-- `devices.labels` once more, one row a label: under row-level security an index serves leakproof operators only, and those of jsonb are
-- not. Written by the trigger alone.
CREATE TABLE device_labels (
    tenant_id text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL REFERENCES devices ON DELETE CASCADE,
    PRIMARY KEY (tenant_id, key, value, device_id)
);
CREATE INDEX device_labels_by_device ON device_labels (device_id);
ALTER TABLE device_labels ENABLE ROW LEVEL SECURITY;
ALTER TABLE device_labels FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON device_labels USING ((SELECT current_setting('app.tenant', true)) IN (tenant_id, '*'));

CREATE FUNCTION label_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM registry.device_labels WHERE device_id = NEW.device_id;
    END IF;
    INSERT INTO registry.device_labels (tenant_id, key, value, device_id)
        SELECT NEW.tenant_id, l.key, l.value, NEW.device_id FROM jsonb_each_text(NEW.labels) l;
    RETURN NULL;
END $$;
CREATE TRIGGER devices_labelled AFTER INSERT ON devices FOR EACH ROW WHEN (NEW.labels <> '{}') EXECUTE FUNCTION label_rows();
CREATE TRIGGER devices_relabelled AFTER UPDATE OF labels ON devices FOR EACH ROW
    WHEN (OLD.labels IS DISTINCT FROM NEW.labels) EXECUTE FUNCTION label_rows();

SET LOCAL app.tenant = '*';
INSERT INTO device_labels (tenant_id, key, value, device_id)
    SELECT d.tenant_id, l.key, l.value, d.device_id FROM devices d CROSS JOIN LATERAL jsonb_each_text(d.labels) l;
DROP INDEX devices_by_label;
