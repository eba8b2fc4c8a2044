-- A watcher has a session of its own, with its own handshake: a device has one open session of a writer, and several of watchers.

SET LOCAL search_path TO debug;

ALTER TABLE sessions ADD COLUMN role text NOT NULL DEFAULT 'writer' CHECK (role IN ('writer', 'watcher'));
ALTER TABLE sessions ALTER COLUMN role DROP DEFAULT;

DROP INDEX sessions_of_device;
CREATE UNIQUE INDEX sessions_of_writers ON sessions (device_id) WHERE state = 'open' AND role = 'writer';

-- The session's.
ALTER TABLE attachments DROP COLUMN role;
