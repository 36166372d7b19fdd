//! Negative controls: the reader, the oracle and the pollers of a run must find what is wrong where something is.

use anyhow::{Context, Result, anyhow, bail, ensure};
use postgres::{Client, Config};
use rand::RngExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::appender::Appender;
use crate::finisher;
use crate::oracle::{self, Found, Looks};
use crate::plan::generator;
use crate::poller::{Followed, Source};
use crate::reader::Reader;
use crate::session::{Fault, OWNER, certain, explain};
use crate::shared::Shared;
use crate::world::{connect, set_up, set_up_published};

/// A named control; it needs an empty database and a superuser.
pub struct Control {
    pub name: &'static str,
    pub run: fn(&Config) -> Result<()>,
}

pub const CONTROLS: [Control; 3] = [
    Control { name: "finds the published protocol's loss", run: published },
    Control { name: "finds a corrupted row", run: corrupted },
    Control { name: "finds a poller that misses an event", run: naive_poller },
];

const ROUND: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(20);

/// The reader must see a torn model, and the oracle a lost event once nothing is open any more.
fn published(config: &Config) -> Result<()> {
    set_up_published(config)?;
    let started = Instant::now();
    let (mut seen, mut lost) = (false, false);
    let mut round = 0;
    while !(seen && lost) {
        ensure!(started.elapsed() < PATIENCE, "after {PATIENCE:?}: seen by the reader {seen}, lost {lost}");
        round += 1;
        let shared = Shared::new(config, round);
        seen |= published_round(&shared)?;
        let mut client = connect(config)?;
        for model in Looks::of_the_shop().iter() {
            let found = oracle::compare(&mut client, model).map_err(explain)?;
            lost |= matches!(found, Found::Wrong(_));
        }
    }
    Ok(())
}

/// Whether the reader saw something wrong.
fn published_round(shared: &Shared) -> Result<bool> {
    thread::scope(|scope| {
        let reader = scope.spawn(|| Reader::open(shared, 1, Looks::of_the_shop(), None)?.run());
        let writers: Vec<_> =
            (1..=4).map(|writer| scope.spawn(move || write_published(shared, writer))).collect();
        let rebuilder = scope.spawn(|| {
            let mut client = connect(&shared.config)?;
            let mut version = 1;
            while !shared.is_load_over() {
                version = 3 - version;
                client.batch_execute(&format!("CALL rebuild('cart', {version})")).map_err(explain)?;
                client.batch_execute(&format!("CALL rebuild('sku_sales', {version})")).map_err(explain)?;
            }
            anyhow::Ok(())
        });
        thread::sleep(ROUND);
        shared.end();
        let panicked = |_| anyhow!("a thread panicked");
        for writer in writers {
            writer.join().map_err(panicked)??;
        }
        rebuilder.join().map_err(panicked)??;
        match reader.join().map_err(panicked)? {
            Ok(()) => Ok(false),
            Err(error) if format!("{error:#}").contains("other than the fold") => Ok(true),
            Err(error) => Err(error),
        }
    })
}

/// Transactions that stay open for a moment, of one event each.
fn write_published(shared: &Shared, writer: u64) -> Result<()> {
    let mut client = connect(&shared.config)?;
    let mut rng = generator(shared.seed, writer);
    while !shared.is_load_over() {
        let cart = rng.random_range(1..=50);
        let sql = format!(
            r#"SELECT append_event('cart-{writer}-{cart}', 'item_added', '{{"sku": "sku-{writer}", "qty": 1, "price": 100}}')"#
        );
        let hold = Duration::from_millis(rng.random_range(0..=40));
        client.batch_execute(&format!("BEGIN; {sql}")).map_err(explain)?;
        thread::sleep(hold);
        client.batch_execute("COMMIT").map_err(explain)?;
    }
    Ok(())
}

/// A row that is changed, missing, or too many, in each of the models.
fn corrupted(config: &Config) -> Result<()> {
    set_up(config)?;
    let shared = Shared::new(config, 1);
    let mut client = connect(config)?;
    let mut owner = connect(config.clone().user(OWNER))?;
    let create = "SELECT refold.create_projection('tally', 'tally_v2(tally,refold.event)')";
    owner.batch_execute(create).map_err(explain)?;
    let is_load_joined = AtomicBool::new(false);
    thread::scope(|scope| {
        let finisher = scope.spawn(|| finisher::run(&shared, &|| is_load_joined.load(Ordering::Acquire)));
        let writer = scope.spawn(|| Appender::open(&shared, 1)?.run());
        thread::sleep(Duration::from_millis(1500));
        shared.end_load();
        let written = writer.join();
        is_load_joined.store(true, Ordering::Release);
        let finished = finisher.join();
        [written, finished]
            .into_iter()
            .try_for_each(|ended| ended.map_err(|_| anyhow!("a thread panicked"))?)
    })?;
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

/// Two appends commit in the opposite order of their positions, and pollers ask between.
fn naive_poller(config: &Config) -> Result<()> {
    set_up(config)?;
    let (mut early, mut late, mut client) = (connect(config)?, connect(config)?, connect(config)?);
    let append = |client: &mut Client, stream: &str| {
        let sql = format!("SELECT refold.append_event('{stream}', 'voucher_given', '{{\"amount\": 1}}')");
        client.batch_execute(&sql).map_err(explain)
    };
    let mut plain = Followed::new(Source::Plain);
    let mut all = Followed::new(Source::All);
    early.batch_execute("BEGIN").map_err(explain)?;
    append(&mut early, "early")?;
    append(&mut late, "late")?;
    for followed in [&mut plain, &mut all] {
        certain(followed.poll(&mut client, 10))?;
    }
    early.batch_execute("COMMIT").map_err(explain)?;
    all.require_whole(&mut client).context("read_all")?;
    match plain.require_whole(&mut client) {
        Ok(_) => bail!("the missed event was not found"),
        Err(error) => {
            ensure!(format!("{error:#}").contains("never got position 1"), error);
            Ok(())
        }
    }
}
