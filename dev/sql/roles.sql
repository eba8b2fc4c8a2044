-- The platform's part of the database, run once by its superuser in the (empty) database of the installation.
--
-- One login role and one schema per service. A role owns its own schema and nothing else: it cannot create elsewhere, cannot read
-- another's tables, and sees of another schema only what that schema's owner grants (views, by its migrations).
-- psql variables: database, registry_password, ota_password, logs_password, debug_password.

CREATE ROLE holdfast_registry LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'registry_password';
CREATE ROLE holdfast_ota      LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'ota_password';
CREATE ROLE holdfast_logs     LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'logs_password';
CREATE ROLE holdfast_debug    LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'debug_password';

REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO holdfast_registry, holdfast_ota, holdfast_logs, holdfast_debug;

CREATE SCHEMA registry AUTHORIZATION holdfast_registry;
CREATE SCHEMA ota      AUTHORIZATION holdfast_ota;
CREATE SCHEMA logs     AUTHORIZATION holdfast_logs;
CREATE SCHEMA debug    AUTHORIZATION holdfast_debug;

-- The published views live in `registry`; which of them may be read, the registry's migrations grant.
GRANT USAGE ON SCHEMA registry TO holdfast_ota, holdfast_logs, holdfast_debug;

ALTER ROLE holdfast_registry IN DATABASE :"database" SET search_path = registry;
ALTER ROLE holdfast_ota      IN DATABASE :"database" SET search_path = ota;
ALTER ROLE holdfast_logs     IN DATABASE :"database" SET search_path = logs;
ALTER ROLE holdfast_debug    IN DATABASE :"database" SET search_path = debug;
