// The tour by Debian's pgx: `tour WAYS`, WAYS as `test_clients` says; prints what it saw.
package main

import (
	"context"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

type Way struct {
	Name     string `json:"name"`
	Host     string `json:"host"`
	Port     int    `json:"port"`
	User     string `json:"user"`
	Password string `json:"password"`
	Tls      bool   `json:"tls"`
	Writes   bool   `json:"writes"`
	Shares   bool   `json:"shares"`
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func digest(what interface{}) string {
	return fmt.Sprintf("%x", md5.Sum([]byte(fmt.Sprintf("%v", what))))
}

func code(err error) string {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.Code + " " + said.Message
	}
	return err.Error()
}

func open(way Way, password string) (*pgx.Conn, error) {
	mode := "disable"
	if way.Tls {
		mode = "require"
	}
	text := fmt.Sprintf("postgres://%s:%s@%s:%d/postgres?sslmode=%s&connect_timeout=60",
		way.User, password, way.Host, way.Port, mode)
	return pgx.Connect(context.Background(), text)
}

func rows(conn *pgx.Conn, query string, args ...interface{}) [][]interface{} {
	found, err := conn.Query(context.Background(), query, args...)
	must(err)
	defer found.Close()
	var all [][]interface{}
	for found.Next() {
		values, err := found.Values()
		must(err)
		all = append(all, values)
	}
	must(found.Err())
	return all
}

func tour(way Way) {
	ctx := context.Background()
	saw := func(step string, what interface{}) {
		fmt.Printf("%s\t%s\t%v\n", way.Name, step, what)
	}
	_, err := open(way, "wrong")
	saw("wrong password", code(err))
	conn, err := open(way, way.Password)
	must(err)
	defer conn.Close(ctx)
	saw("version", conn.PgConn().ParameterStatus("server_version"))
	saw("big", digest(rows(conn, "SELECT i, md5(i::text) FROM generate_series(1, 20000) i")))
	var marks []string
	var numbers []interface{}
	for i := 0; i < 2000; i++ {
		marks = append(marks, fmt.Sprintf("$%d::int", i+1))
		numbers = append(numbers, i)
	}
	many := "SELECT sum(v) FROM unnest(ARRAY[" + strings.Join(marks, ", ") + "]) v"
	saw("parameters", rows(conn, many, numbers...))
	_, err = conn.Exec(ctx, "SELECT 1 / (3 - i) FROM generate_series(1, 9) i")
	saw("error", code(err))
	var again []interface{}
	for i := 0; i < 20; i++ { // prepared by the driver, once
		again = append(again, rows(conn, "SELECT $1::text || repeat('x', 500)", fmt.Sprint(i)))
	}
	saw("prepared", digest(again))
	batch := &pgx.Batch{}
	for i := 0; i < 200; i++ {
		batch.Queue("SELECT $1::int, repeat('x', 3000)", i)
	}
	results, sum := conn.SendBatch(ctx, batch), 0
	for i := 0; i < 200; i++ {
		var number int
		var text string
		must(results.QueryRow().Scan(&number, &text))
		sum += number + len(text)
	}
	must(results.Close())
	saw("pipeline", sum)
	must(conn.BeginFunc(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DECLARE held CURSOR FOR SELECT * FROM generate_series(1, 500)")
		must(err)
		saw("cursor", rows(conn, "FETCH 7 FROM held"))
		return nil
	}))
	cancels(way, saw)
	if way.Writes {
		writes(way, conn, saw)
	}
}

// A deadline of the driver's own ends the session, and asks the server to cancel.
func cancels(way Way, saw func(string, interface{})) {
	conn, err := open(way, way.Password)
	must(err)
	asked := time.AfterFunc(500*time.Millisecond, func() {
		must(conn.PgConn().CancelRequest(context.Background()))
	})
	defer asked.Stop()
	_, err = conn.Exec(context.Background(), "SELECT pg_sleep(60)")
	saw("cancel", code(err)+fmt.Sprint(rows(conn, "SELECT 1")))
	must(conn.Close(context.Background()))
}

func writes(way Way, conn *pgx.Conn, saw func(string, interface{})) {
	ctx := context.Background()
	_, err := conn.Exec(ctx, "DROP TABLE IF EXISTS tour_pgx; CREATE TABLE tour_pgx (id int, note text)")
	must(err)
	var filled [][]interface{}
	for i := 0; i < 3000; i++ {
		filled = append(filled, []interface{}{i, strings.Repeat("ünï", 300)})
	}
	copied, err := conn.CopyFrom(ctx, pgx.Identifier{"tour_pgx"}, []string{"id", "note"},
		pgx.CopyFromRows(filled))
	must(err)
	saw("copy in", copied)
	saw("filled", rows(conn, "SELECT count(*), md5(string_agg(note, '')) FROM tour_pgx"))
	tx, err := conn.Begin(ctx)
	must(err)
	_, err = tx.Exec(ctx, "DELETE FROM tour_pgx WHERE id < $1", 100)
	must(err)
	must(tx.Rollback(ctx))
	saw("rollback", rows(conn, "SELECT count(*) FROM tour_pgx"))
	if !way.Shares { // LISTEN belongs to a session: docs/guide/sessions.md
		_, err = conn.Exec(ctx, "LISTEN tour")
		must(err)
		_, err = conn.Exec(ctx, "NOTIFY tour, 'of the day'")
		must(err)
		heard, err := conn.WaitForNotification(ctx)
		must(err)
		saw("listen", heard.Payload)
	}
	_, err = conn.Exec(ctx, "DROP TABLE tour_pgx")
	must(err)
}

func main() {
	var ways []Way
	must(json.Unmarshal([]byte(os.Args[1]), &ways))
	for _, way := range ways {
		tour(way)
	}
}
