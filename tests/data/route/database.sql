-- The database that the statements of truth.txt are about. One command per paragraph.

CREATE ROLE ann LOGIN

CREATE SCHEMA other

CREATE TABLE t (id int PRIMARY KEY, a text, b int, j jsonb, ts timestamptz DEFAULT now(), arr int[], random int)

INSERT INTO t SELECT i, 'text ' || i, i % 7, '{"k": [1, 2]}', now(), ARRAY[i, 2], 1 FROM generate_series(1, 100) i

CREATE TABLE u (id int PRIMARY KEY, t_id int, words text)

INSERT INTO u SELECT i, i, 'words' FROM generate_series(1, 3) i

CREATE TABLE log (i int)

CREATE TABLE "Odd Name" (i int)

CREATE UNLOGGED TABLE unlogged (i int)

CREATE SEQUENCE s

CREATE TABLE parted (i int) PARTITION BY LIST (i)

CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1)

CREATE TABLE half (i int) PARTITION BY LIST (i)

CREATE UNLOGGED TABLE half_1 PARTITION OF half FOR VALUES IN (1)

CREATE MATERIALIZED VIEW summary AS SELECT b, count(*) FROM t GROUP BY b

CREATE FOREIGN DATA WRAPPER nothing

CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing

CREATE FOREIGN TABLE far (i int) SERVER nowhere

CREATE FUNCTION pure(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1'

CREATE FUNCTION counts() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM t'

CREATE FUNCTION counts_as_owner() RETURNS bigint STABLE SECURITY DEFINER LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM t); END'

CREATE FUNCTION writes() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN INSERT INTO log VALUES (1); RETURN 1; END'

CREATE FUNCTION unsaid() RETURNS int LANGUAGE sql AS 'SELECT 1'

CREATE FUNCTION either(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'

CREATE FUNCTION either(text) RETURNS int LANGUAGE sql AS 'SELECT writes()'

CREATE FUNCTION twice() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'

CREATE FUNCTION other.twice() RETURNS int LANGUAGE sql AS 'SELECT public.writes()'

CREATE FUNCTION "Quoted Name"() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'

CREATE FUNCTION label(t) RETURNS text STABLE LANGUAGE sql AS 'SELECT $1.a'

CREATE FUNCTION stamp(t) RETURNS int LANGUAGE sql AS 'SELECT writes()'

CREATE FUNCTION rows_of(int) RETURNS SETOF t STABLE LANGUAGE sql AS 'SELECT * FROM t LIMIT $1'

CREATE PROCEDURE proceeds() LANGUAGE sql AS 'INSERT INTO log VALUES (2)'

CREATE FUNCTION adds(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + $2'

CREATE FUNCTION adds_loudly(int, int) RETURNS int LANGUAGE sql AS 'SELECT writes() + $1 + $2'

CREATE OPERATOR +@+ (LEFTARG = int, RIGHTARG = int, FUNCTION = adds)

CREATE OPERATOR +!+ (LEFTARG = int, RIGHTARG = int, FUNCTION = adds_loudly)

CREATE AGGREGATE own_sum(int) (SFUNC = adds, STYPE = int, INITCOND = '0')

CREATE AGGREGATE loud_sum(int) (SFUNC = adds_loudly, STYPE = int, INITCOND = '0')

CREATE VIEW plain AS SELECT id, a FROM t WHERE b > 2

CREATE VIEW nested AS SELECT plain.id, pure(plain.id) FROM plain JOIN u ON u.t_id = plain.id

CREATE VIEW other.plain AS SELECT 1

CREATE VIEW numbers AS SELECT nextval('s') AS n

CREATE VIEW writing AS SELECT writes() AS w

CREATE VIEW writing_deep AS SELECT * FROM (SELECT w FROM writing) x

CREATE VIEW rolling AS SELECT random() AS r

CREATE VIEW stamping AS SELECT x.stamp FROM t x

CREATE VIEW operating AS SELECT id +!+ b AS o FROM t

CREATE VIEW summing AS SELECT loud_sum(b) FROM t

CREATE VIEW locking AS SELECT id FROM t FOR UPDATE

CREATE VIEW of_unlogged AS SELECT * FROM unlogged

CREATE VIEW watching AS SELECT pid FROM pg_stat_activity

CREATE VIEW of_summary AS SELECT * FROM summary

CREATE TABLE guarded (i int)

ALTER TABLE guarded ENABLE ROW LEVEL SECURITY

CREATE POLICY guard ON guarded USING (writes() > 0)

INSERT INTO guarded VALUES (1)

CREATE VIEW of_guarded WITH (security_invoker = on) AS SELECT * FROM guarded

CREATE TABLE fenced (i int, owner text)

ALTER TABLE fenced ENABLE ROW LEVEL SECURITY

CREATE POLICY fence ON fenced FOR SELECT USING (owner = current_user AND counts() > 0)

CREATE POLICY filling ON fenced FOR INSERT WITH CHECK (writes() > 0)

GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public, other TO ann

GRANT USAGE ON SCHEMA other TO ann

GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO ann

GRANT CREATE ON SCHEMA public TO ann
