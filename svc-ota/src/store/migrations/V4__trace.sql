-- Where the deployment is in the trace of who asked for it (W3C Trace Context), so that what happens to it later, and in other
-- replicas, is told as part of that; empty for those that are older.
ALTER TABLE deployments ADD COLUMN trace text NOT NULL DEFAULT '';
