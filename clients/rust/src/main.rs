use serde_json::json;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, IsolationLevel, NoTls};

const ATTEMPTS: u32 = 5;

/// Orders what is missing, by what this transaction reads: if that has changed, it fails.
async fn restock(client: &mut Client, article: &str, wanted: i32) -> Result<i32, Error> {
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
    let found = transaction.query_one("SELECT quantity FROM stock WHERE article = $1", &[&article]).await?;
    let quantity = wanted - found.try_get::<_, i32>("quantity")?;
    let append = "SELECT refold.append_event($1, 'restocked', $2)";
    transaction.execute(append, &[&article, &json!({ "quantity": quantity })]).await?;
    transaction.commit().await?;
    Ok(quantity)
}

/// Does the work again, from its start, where another session was faster.
async fn retried<T>(mut work: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..ATTEMPTS {
        match work().await {
            Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {}
            result => return result,
        }
    }
    work().await
}

async fn rebuild(client: &Client, projection: &str) -> Result<(), Box<dyn std::error::Error>> {
    let started = client.query_one("SELECT refold.start_rebuild($1)", &[&projection]).await?;
    let job: i64 = started.try_get(0)?;
    let progress =
        "SELECT phase, events_done, events_total FROM refold.rebuild_progress WHERE projection = $1";
    while let Some(now) = client.query_opt(progress, &[&projection]).await? {
        let (phase, done, total): (&str, i64, i64) = (now.try_get(0)?, now.try_get(1)?, now.try_get(2)?);
        println!("{phase}: {done} of {total} events");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let outcome = "SELECT state, error_message FROM refold.rebuild_jobs WHERE job_id = $1";
    let job = client.query_one(outcome, &[&job]).await?;
    match job.try_get("state")? {
        "done" => Ok(()),
        state => Err(format!("the rebuild is {state}: {:?}", job.try_get::<_, Option<&str>>(1)?).into()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut client, connection) = tokio_postgres::connect(&std::env::var("DATABASE_URL")?, NoTls).await?;
    tokio::spawn(connection);
    let ordered = retried(async || restock(&mut client, "apple", 100).await).await?;
    let stock = client.query_one("SELECT quantity FROM stock WHERE article = 'apple'", &[]).await?;
    println!("apple: {ordered} ordered, {} in stock", stock.try_get::<_, i32>("quantity")?);
    rebuild(&client, "stock").await?;
    println!("stock is rebuilt");
    Ok(())
}
