-- One of everything that a database can have.
CREATE EXTENSION hstore; CREATE EXTENSION pgcrypto WITH SCHEMA public; CREATE EXTENSION postgres_fdw;
CREATE SCHEMA "S é"; COMMENT ON SCHEMA "S é" IS 'odd';
CREATE DOMAIN "S é".posint AS int CHECK (value > 0);
CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TYPE comp AS (x int, y text);
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE TABLE base (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood, c comp, h hstore,
    g int GENERATED ALWAYS AS (id * 2) STORED, d "S é".posint, t tstzrange, j jsonb, b bytea, f float8, n numeric, a int[]);
INSERT INTO base (m, c, h, d, t, j, b, f, n, a) VALUES
    ('a', (1, 'x'), 'a=>1', 5, '[2020-01-01,2021-01-01)', '{"é":"😀"}', '\x00ff5c27', 1 / 3.0, 'NaN', '{{1,2},{3,4}}'),
    ('b', NULL, NULL, 1, NULL, 'null', '', 'Infinity', 1e100, NULL);
CREATE TABLE parted (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE p1 PARTITION OF parted FOR VALUES FROM (0) TO (10); CREATE TABLE pd PARTITION OF parted DEFAULT;
INSERT INTO parted SELECT i, 'v' FROM generate_series(1, 2000) i;
CREATE MATERIALIZED VIEW mv AS SELECT k % 5 AS k, count(*) FROM parted GROUP BY 1; CREATE UNIQUE INDEX mv_k ON mv (k);
CREATE MATERIALIZED VIEW mv0 AS SELECT 1 AS one WITH NO DATA;
CREATE UNLOGGED TABLE ul AS SELECT generate_series(1, 5) AS i;
CREATE TABLE parent (i int); CREATE TABLE kid (extra int) INHERITS (parent); INSERT INTO kid VALUES (1, 2);
CREATE SEQUENCE sq INCREMENT 7 START 3 CYCLE MAXVALUE 99; SELECT nextval('sq'), nextval('sq');
CREATE FUNCTION trgf() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN new.v := new.v || '!'; RETURN new; END$$;
CREATE TRIGGER tr BEFORE INSERT ON parted FOR EACH ROW EXECUTE FUNCTION trgf();
CREATE TRIGGER off AFTER UPDATE ON p1 FOR EACH ROW EXECUTE FUNCTION trgf(); ALTER TABLE p1 DISABLE TRIGGER off;
CREATE FUNCTION evf() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN NULL; END$$;
CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION evf();
CREATE PROCEDURE pr(INOUT i int) LANGUAGE sql AS 'SELECT i + 1';
ALTER TABLE base ENABLE ROW LEVEL SECURITY; ALTER TABLE base FORCE ROW LEVEL SECURITY;
CREATE POLICY pol ON base USING (id > 1) WITH CHECK (true);
CREATE RULE r AS ON INSERT TO parent WHERE new.i < 0 DO INSTEAD NOTHING;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere.invalid');
CREATE USER MAPPING FOR public SERVER far OPTIONS (user 'u', password 'p'); CREATE FOREIGN TABLE ft (i int) SERVER far;
SELECT lo_from_bytea(9001, '\x0102ff'); SELECT lo_from_bytea(9002, decode(repeat('ab', 300000), 'hex'));
COMMENT ON LARGE OBJECT 9001 IS 'lo'; GRANT SELECT ON LARGE OBJECT 9001 TO rr;
CREATE COLLATION "c x" FROM "C"; CREATE STATISTICS st (dependencies) ON k, v FROM parted;
CREATE PUBLICATION pub FOR TABLE base (id, m) WHERE (id > 1);
CREATE SUBSCRIPTION sub CONNECTION 'dbname=nowhere' PUBLICATION pub WITH (connect = false);
CREATE TEXT SEARCH CONFIGURATION tsc (COPY = simple);
CREATE TEXT SEARCH DICTIONARY tsd (TEMPLATE = simple, accept = false);
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq); CREATE CAST (mood AS int) WITH INOUT;
CREATE OPERATOR FAMILY fam USING btree; CREATE CONVERSION conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE AGGREGATE ag(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO rr; GRANT SELECT (id) ON base TO rr;
REVOKE ALL ON SCHEMA public FROM public; COMMENT ON COLUMN base.m IS E'it''s\nx';
CREATE TABLE "quote""d ""t" ("sel ect" int, "é" text); INSERT INTO "quote""d ""t" VALUES (1, E'tab\tnl\n\\.\n\\connect x');
CREATE INDEX ix ON base USING gin (j); CREATE VIEW vv AS SELECT * FROM base WHERE f > 0 WITH CHECK OPTION;
CREATE VIEW vt AS SELECT 1 AS i; CREATE FUNCTION vtf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER vtr INSTEAD OF INSERT ON vt FOR EACH ROW EXECUTE FUNCTION vtf();
ALTER TABLE base OWNER TO rr;
CREATE TABLE people (id serial PRIMARY KEY, name text NOT NULL);
INSERT INTO people (name) SELECT 'p' || i FROM generate_series(1, 50) i;
CREATE TABLE orders (id serial PRIMARY KEY, who int NOT NULL REFERENCES people, what text DEFAULT 'x',
    EXCLUDE USING gist (int4range(id, id, '[]') WITH &&), CHECK (id > 0) NOT VALID);
INSERT INTO orders (who) SELECT 1 + i % 50 FROM generate_series(1, 300) i; CREATE INDEX orders_who ON orders (who);
CREATE FUNCTION ordf() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN new.what := new.what || '!'; RETURN new; END$$;
CREATE TRIGGER ordt BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION ordf();
CREATE TABLE gen2 (a int, b text DEFAULT current_user, c xml, d pg_lsn, e bit(5), f money, s span);
INSERT INTO gen2 VALUES (1, DEFAULT, '<a/>', '0/16B3748', B'10101', '12.34', '[1,2)');
CREATE TABLE clustered (i int PRIMARY KEY, j int) WITH (fillfactor = 70); ALTER TABLE clustered CLUSTER ON clustered_pkey;
ALTER TABLE clustered REPLICA IDENTITY FULL; ALTER TABLE clustered ALTER j SET STATISTICS 77; ANALYZE;
