//! The cases of one run: those that are wanted, up to the first that fails, for the next would find the same.

use anyhow::Result;

use crate::report::Report;

pub struct Run<'a> {
    report: &'a mut Report,
    /// Only cases with this in their name.
    only: &'a str,
    failures_before: usize,
    ran: usize,
}

impl<'a> Run<'a> {
    pub fn new(report: &'a mut Report, only: &'a str) -> Self {
        Self { failures_before: report.failures(), report, only, ran: 0 }
    }

    /// Runs the case if it is wanted; says whether it was run.
    pub fn case(&mut self, name: &str, case: impl FnOnce() -> Result<()>) -> bool {
        let runs = name.contains(self.only) && !self.has_failed();
        if runs {
            self.ran += 1;
            self.report.case(&format!("crash: {name}"), case);
        }
        runs
    }

    /// A case whatever is wanted, at a server's end.
    pub fn closing_case(&mut self, name: &str, case: impl FnOnce() -> Result<()>) {
        self.report.case(&format!("crash: {name}"), case);
    }

    pub fn has_failed(&self) -> bool {
        self.report.failures() > self.failures_before
    }

    /// How many were run.
    pub fn ran(&self) -> usize {
        self.ran
    }
}
