//! Models that are wrong: a row, or for old snapshots only.

use anyhow::{Context, Result, anyhow, bail, ensure};
use postgres::{Client, Config};
use std::thread;
use std::time::Duration;

use super::{PATIENCE, append_for, execute};
use crate::oracle::{self, Looks};
use crate::plan::Isolation;
use crate::reader::Reader;
use crate::session::{Fault, OWNER, certain, explain};
use crate::shared::Shared;
use crate::world::{connect, set_up};

/// A row that is changed, missing, or too many, in each of the models.
pub fn corrupted(config: &Config) -> Result<()> {
    set_up(config)?;
    let shared = Shared::new(config, 1);
    let mut client = connect(config)?;
    let mut owner = connect(config.clone().user(OWNER))?;
    execute(&mut owner, "SELECT refold.create_projection('tally', 'tally_v2(tally,refold.event)')")?;
    append_for(&shared, Duration::from_millis(1500))?;
    for model in Looks::all().iter() {
        ensure_found(&mut client, model, &shared).with_context(|| format!("the model {}", model.name))?;
    }
    Ok(())
}

fn ensure_found(client: &mut Client, model: &'static oracle::Model, shared: &Shared) -> Result<()> {
    let verify = "SELECT count(*) FROM refold.verify_projection($1)";
    let verified = |client: &mut Client| -> Result<i64> {
        Ok(client.query_one(verify, &[&model.name]).map_err(explain)?.try_get(0)?)
    };
    certain(oracle::look(client, model, shared))?;
    ensure!(verified(client)? == 0, "verify_projection finds something too early");
    ensure!(client.execute(model.corrupt, &[]).map_err(explain)? == 1, "there is no row to corrupt");
    match oracle::look(client, model, shared) {
        Err(Fault::Broken(error)) => {
            let text = format!("{error:#}");
            ensure!(text.contains("The last events of"), "the history is missing: {text}");
        }
        Err(Fault::Sql(error)) => return Err(explain(error)),
        Ok(_) => bail!("the oracle did not find the corrupted row"),
    }
    ensure!(verified(client)? > 0, "verify_projection did not find the corrupted row");
    client.query("SELECT refold.rebuild_projection($1)", &[&model.name]).map_err(explain)?;
    certain(oracle::look(client, model, shared)).context("after a rebuild")?;
    Ok(())
}

/// A merge that replaces the rows by TRUNCATE, at one stroke for whoever looks afterwards: a snapshot that is older sees
/// an empty model.
const TRUNCATING: &str = "
    BEGIN;
    LOCK TABLE cart;
    CREATE TEMP TABLE kept ON COMMIT DROP AS TABLE cart;
    TRUNCATE cart;
    INSERT INTO cart TABLE kept;
    COMMIT";

/// Readers that keep their snapshot must see it; that the others do not shows that it takes those.
pub fn truncating(config: &Config) -> Result<()> {
    set_up(config)?;
    append_for(&Shared::new(config, 1), Duration::from_millis(300))?;
    let looks = [
        (Isolation::ReadCommitted, Duration::from_secs(1), false),
        (Isolation::RepeatableRead, PATIENCE, true),
        (Isolation::Serializable, PATIENCE, true),
    ];
    for (isolation, time, finds) in looks {
        let found = read_truncated(config, isolation, time)?;
        ensure!(found == finds, "at {isolation:?}: found {found}");
    }
    Ok(())
}

/// Whether a reader at this level finds something in that time.
fn read_truncated(config: &Config, isolation: Isolation, time: Duration) -> Result<bool> {
    let shared = &Shared::new(config, 1);
    thread::scope(|scope| {
        let merges = scope.spawn(|| {
            let mut client = connect(config)?;
            while !shared.is_over() {
                execute(&mut client, TRUNCATING)?;
                thread::sleep(Duration::from_millis(10));
            }
            anyhow::Ok(())
        });
        scope.spawn(move || {
            let pulse = Duration::from_millis(10);
            let mut left = time;
            while left > Duration::ZERO && !shared.is_over() {
                thread::sleep(pulse);
                left = left.saturating_sub(pulse);
            }
            shared.end();
        });
        let read =
            Reader::open(shared, 1, Looks::of_the_shop(), None).and_then(|reader| reader.at(isolation).run());
        shared.end();
        merges.join().map_err(|_| anyhow!("a thread panicked"))??;
        is_wrong_model(read)
    })
}

/// Whether a reader ended because it saw something wrong.
pub fn is_wrong_model(read: Result<()>) -> Result<bool> {
    match read {
        Ok(()) => Ok(false),
        Err(error) if format!("{error:#}").contains("other than the fold") => Ok(true),
        Err(error) => Err(error),
    }
}
