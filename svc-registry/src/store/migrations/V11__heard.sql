-- Boots that were heard and have proved nothing yet (model::lives): when one of a device is proved, they are over.

SET LOCAL search_path TO registry;

-- As in `boots`: 4 bytes of counter and 8 random ones of each, big-endian; the last one first.
ALTER TABLE lives ADD COLUMN heard bytea NOT NULL DEFAULT '';
