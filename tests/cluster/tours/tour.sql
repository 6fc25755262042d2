-- The tour by psql; with writes where :writes is 1. What it prints is compared byte for byte.
\set ON_ERROR_STOP 0
\set VERBOSITY verbose
SELECT i, md5(i::text), i / 7.0 FROM generate_series(1, 20000) i;
COPY (SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 20000) i) TO STDOUT;
SELECT 1 / (3 - i) FROM generate_series(1, 9) i;
SELECT * FROM nowhere;
PREPARE again AS SELECT $1::int + 1;
EXECUTE again(1);
EXECUTE again(2);
BEGIN;
DECLARE held SCROLL CURSOR FOR SELECT * FROM generate_series(1, 500);
FETCH 7 FROM held;
MOVE 100 FROM held;
FETCH BACKWARD 3 FROM held;
COMMIT;
SET statement_timeout = '300ms';
SELECT pg_sleep(60);
RESET statement_timeout;
SHOW client_min_messages;
SET client_min_messages = warning;
SHOW client_min_messages;
SET DateStyle = 'German';
SELECT date '2026-11-22';
DO $$ BEGIN RAISE WARNING 'this is %', 'heard'; END $$;
SELECT 1 AS a \; SELECT 2 AS b \; SELECT 3 AS c;
\if :writes
CREATE TEMP TABLE filled (id int, note text);
COPY filled FROM STDIN;
1	one
2	ünï
\.
SELECT * FROM filled ORDER BY id;
BEGIN;
SELECT lo_from_bytea(4242, decode(repeat('0001020304', 50000), 'hex'));
SELECT md5(lo_get(4242));
\lo_unlink 4242
COMMIT;
LISTEN tour;
NOTIFY tour, 'of the day';
SELECT 'heard it';
\endif
