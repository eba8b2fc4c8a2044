-- What hellos say of the microvisor: its floor, and the version that runs (empty: unknown). A microvisor's commit is seen to have arrived by
-- the one; an application that needs a newer microvisor is refused, or waits, by the other.

ALTER TABLE device_links ADD COLUMN microvisor_floor bigint NOT NULL DEFAULT 0;
ALTER TABLE device_links ADD COLUMN microvisor text NOT NULL DEFAULT '';
