//! What a run needs in its empty database: roles, extension, models, projections.

use anyhow::{Context, Result};
use postgres::{Client, Config, NoTls};

use crate::session::{OWNER, explain};

const ROLES: &str = include_str!("../sql/roles.sql");
const EXTENSION: &str = include_str!("../sql/extension.sql");
const MODELS: &str = include_str!("../sql/models.sql");
const PUBLISHED_VIEWS: &str = include_str!("../sql/published.sql");

// The demo's shop, which refold and the published protocol both can keep.
const SHOP: &str = include_str!("../../../xtask/src/demo/sql/handlers.sql");
const PUBLISHED_LOG: &str = include_str!("../../../xtask/src/demo/sql/published_log.sql");
const PUBLISHED: &str = include_str!("../../../xtask/src/demo/sql/published.sql");

/// `config` names the superuser and the database.
pub fn set_up(config: &Config) -> Result<()> {
    let mut client = connect(config)?;
    for script in [ROLES, EXTENSION] {
        run(&mut client, script)?;
    }
    // Deadlocks of the writers' own making should not last.
    let database = config.get_dbname().unwrap_or_default();
    run(&mut client, &format!("ALTER DATABASE \"{database}\" SET deadlock_timeout = '50ms'"))?;
    let mut owner = connect(config.clone().user(OWNER))?;
    for script in [SHOP, MODELS] {
        run(&mut owner, script)?;
    }
    Ok(())
}

/// Draws positions in vain: so far to go, several workers share the replay of a fold.
pub fn lengthen(config: &Config) -> Result<()> {
    run(&mut connect(config)?, "SELECT setval('refold.event_position_seq', 150000)")
}

/// The same shop on the published protocol.
pub fn set_up_published(config: &Config) -> Result<()> {
    let mut client = connect(config)?;
    let shop = SHOP.replace("refold.event", "event");
    [PUBLISHED_LOG, &shop, PUBLISHED, PUBLISHED_VIEWS]
        .into_iter()
        .try_for_each(|script| run(&mut client, script))
}

pub fn connect(config: &Config) -> Result<Client> {
    let mut config = config.clone();
    // Nothing takes long: what hangs fails the run.
    config.options("-c statement_timeout=60s");
    config.connect(NoTls).map_err(explain).context("could not connect")
}

fn run(client: &mut Client, script: &str) -> Result<()> {
    client.batch_execute(script).map_err(explain).context("could not set up the database")
}
