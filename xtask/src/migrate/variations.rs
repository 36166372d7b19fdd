//! What the tables of an old store may have: it is copied, and becomes what it should.

use anyhow::{Result, ensure};

use super::script::Scripts;
use super::source::Base;

pub struct Variation {
    pub name: &'static str,
    /// What is done to the tables before.
    pub change: &'static str,
    pub options: &'static [&'static str],
    pub copied: usize,
    /// A query whose one answer is `answer` afterwards.
    pub asked: &'static str,
    pub answer: &'static str,
}

impl Variation {
    /// A second call copies nothing.
    pub fn run(&self, base: &Base, scripts: &Scripts) -> Result<()> {
        base.with_copy(|place| {
            place.execute(&base.source.words().put_into(self.change))?;
            scripts.copy(place, base.source, self.options, self.copied)?;
            scripts.copy(place, base.source, self.options, 0)?;
            let answer = place.lines(self.asked)?;
            ensure!(answer == [self.answer], "{answer:?} instead of {:?}", self.answer);
            Ok(())
        })
    }
}
