-- svc-debug-relay reads which devices there are. Its role (dev/sql/roles.sql) must exist before.

SET LOCAL search_path TO registry;

GRANT USAGE ON SCHEMA registry TO holdfast_debug;
GRANT SELECT ON device_v1 TO holdfast_debug;
