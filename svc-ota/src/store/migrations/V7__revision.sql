-- How often what is shown of a deployment has changed: watches go on by it, and say how many changes they did not tell.
ALTER TABLE deployments ADD COLUMN revision bigint NOT NULL DEFAULT 1;

CREATE FUNCTION count_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := OLD.revision + 1;
    RETURN NEW;
END $$;
CREATE TRIGGER deployments_revised BEFORE UPDATE ON deployments FOR EACH ROW
    WHEN ((OLD.state, OLD.reason, OLD.bytes_done, OLD.attempts, OLD.committed, OLD.updated_at)
        IS DISTINCT FROM (NEW.state, NEW.reason, NEW.bytes_done, NEW.attempts, NEW.committed, NEW.updated_at))
    EXECUTE FUNCTION count_revision();
