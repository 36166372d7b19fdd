//! A poller that asks the table itself.

use anyhow::{Context, Result, bail, ensure};
use postgres::{Client, Config};

use super::execute;
use crate::poller::{Followed, Source};
use crate::session::certain;
use crate::world::{connect, set_up};

/// Two appends commit in the opposite order of their positions, and pollers ask between.
pub fn naive(config: &Config) -> Result<()> {
    set_up(config)?;
    let (mut early, mut late, mut client) = (connect(config)?, connect(config)?, connect(config)?);
    let append = |client: &mut Client, stream: &str| {
        let sql = format!("SELECT refold.append_event('{stream}', 'voucher_given', '{{\"amount\": 1}}')");
        execute(client, &sql)
    };
    let mut plain = Followed::new(Source::Plain);
    let mut all = Followed::new(Source::All);
    execute(&mut early, "BEGIN")?;
    append(&mut early, "early")?;
    append(&mut late, "late")?;
    for followed in [&mut plain, &mut all] {
        certain(followed.poll(&mut client, 10))?;
    }
    execute(&mut early, "COMMIT")?;
    all.require_whole(&mut client).context("read_all")?;
    match plain.require_whole(&mut client) {
        Ok(_) => bail!("the missed event was not found"),
        Err(error) => {
            ensure!(format!("{error:#}").contains("never got position 1"), error);
            Ok(())
        }
    }
}
