-- Which boot of a device is its current one, as proved (model::lives): a board whose journal is lost counts its boots from a lower number,
-- and what it says is news all the same.

SET LOCAL search_path TO registry;

-- `over`: boots that are over, newest first, 4 bytes of counter and 8 random ones of each, big-endian, as the current one's in `boot`.
CREATE VIEW life_v1 AS
    SELECT tenant_id, device_id, substring(boots FROM 1 FOR 12) AS boot, substring(boots FROM 13) AS over FROM lives;

GRANT SELECT ON life_v1 TO holdfast_ota;
