-- Director keys of one tenant beside each other: each device obeys the one that its keyset names, and not all hold the newest keyset. The
-- younger one has the higher id. Which keyset a device said it holds is kept with its hello; 0: it did not say.

SET LOCAL search_path TO ota;

ALTER TABLE director_keys DROP CONSTRAINT director_keys_pkey;
ALTER TABLE director_keys ADD COLUMN director_id bigint GENERATED ALWAYS AS IDENTITY;
ALTER TABLE director_keys ADD PRIMARY KEY (tenant_id, public_key);

ALTER TABLE device_links ADD COLUMN keyset_version bigint NOT NULL DEFAULT 0;
