package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/lib/pq"
)

// restock orders what is missing, by what its transaction reads: if that has changed, it fails.
func restock(ctx context.Context, db *sql.DB, article string, wanted int) (int, error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // does nothing after the commit
	var found int
	err = tx.QueryRowContext(ctx, "SELECT quantity FROM stock WHERE article = $1", article).Scan(&found)
	if err != nil {
		return 0, err
	}
	data, err := json.Marshal(map[string]int{"quantity": wanted - found})
	if err != nil {
		return 0, err
	}
	_, err = tx.ExecContext(ctx, "SELECT refold.append_event($1, 'restocked', $2)", article, string(data))
	if err != nil {
		return 0, err
	}
	return wanted - found, tx.Commit()
}

// retried does the work again, from its start, where another session was faster.
func retried(work func() error) (err error) {
	for attempt := 0; attempt < 5; attempt++ {
		var refused *pq.Error
		if err = work(); !errors.As(err, &refused) || refused.Code != "40001" {
			return err
		}
	}
	return err
}

func rebuild(ctx context.Context, db *sql.DB, projection string) error {
	var job int64
	if err := db.QueryRowContext(ctx, "SELECT refold.start_rebuild($1)", projection).Scan(&job); err != nil {
		return err
	}
	progress := "SELECT phase, events_done, events_total FROM refold.rebuild_progress WHERE projection = $1"
	for {
		var phase string
		var done, total int64
		err := db.QueryRowContext(ctx, progress, projection).Scan(&phase, &done, &total)
		if errors.Is(err, sql.ErrNoRows) {
			break
		} else if err != nil {
			return err
		}
		fmt.Printf("%s: %d of %d events\n", phase, done, total)
		time.Sleep(100 * time.Millisecond)
	}
	var state string
	var message sql.NullString
	outcome := "SELECT state, error_message FROM refold.rebuild_jobs WHERE job_id = $1"
	if err := db.QueryRowContext(ctx, outcome, job).Scan(&state, &message); err != nil {
		return err
	}
	if state != "done" {
		return fmt.Errorf("the rebuild is %s: %s", state, message.String)
	}
	return nil
}

func run(ctx context.Context) error {
	db, err := sql.Open("postgres", os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer db.Close()
	var ordered, stock int
	err = retried(func() (err error) {
		ordered, err = restock(ctx, db, "apple", 100)
		return err
	})
	if err != nil {
		return err
	}
	err = db.QueryRowContext(ctx, "SELECT quantity FROM stock WHERE article = 'apple'").Scan(&stock)
	if err != nil {
		return err
	}
	fmt.Printf("apple: %d ordered, %d in stock\n", ordered, stock)
	if err := rebuild(ctx, db, "stock"); err != nil {
		return err
	}
	fmt.Println("stock is rebuilt")
	return nil
}

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
