//! Who is killed: what each does, and what becomes of it once the server is back.

use super::case::Place;
use super::world::append_sql;

/// Somebody who comes to waitpoints.
pub struct Victim {
    pub name: &'static str,
    /// The first words of the waitpoints that it comes to.
    phases: &'static [&'static str],
    /// Makes its act possible.
    pub prepare: &'static str,
    act: Act,
    /// Of a job, which goes on after the crash: what makes it.
    pub resume: &'static str,
    /// Whether its model is incomplete until it is done.
    pub in_place: bool,
    /// Takes back what its act has done.
    pub undo: &'static str,
}

enum Act {
    /// An append of this many events.
    Append(usize),
    Sql(&'static str),
}

const VICTIM: Victim =
    Victim { name: "", phases: &[], prepare: "", act: Act::Sql(""), resume: "", in_place: false, undo: "" };

/// A new kind of command, or of process, gets a line here: whichever process waits at the waitpoint is killed.
pub const VICTIMS: [Victim; 13] = [
    Victim { name: "append of 3 events", phases: &["append"], act: Act::Append(3), ..VICTIM },
    Victim { name: "append of 1 event", phases: &["append"], act: Act::Append(1), ..VICTIM },
    Victim {
        name: "rebuild of a fold",
        phases: &["rebuild", "build", "gate"],
        act: Act::Sql("SELECT refold.rebuild_projection('cart', 'fold_cart_twice(cart, refold.event)')"),
        undo: "SELECT refold.rebuild_projection('cart', 'fold_cart(cart, refold.event)')",
        ..VICTIM
    },
    Victim {
        name: "rebuild per event",
        phases: &["rebuild", "build", "gate"],
        act: Act::Sql("SELECT refold.rebuild_projection('visit', 'add_visit_twice(refold.event)')"),
        undo: "SELECT refold.rebuild_projection('visit', 'add_visit(refold.event)')",
        ..VICTIM
    },
    Victim {
        name: "rebuild per batch",
        phases: &["rebuild", "build", "gate"],
        act: Act::Sql("SELECT refold.rebuild_projection('sale', 'add_sales_twice(refold.event[])')"),
        undo: "SELECT refold.rebuild_projection('sale', 'add_sales(refold.event[])')",
        ..VICTIM
    },
    Victim {
        name: "create_projection",
        phases: &["build", "gate"],
        act: Act::Sql("SELECT refold.create_projection('extra', 'fold_extra(extra, refold.event)')"),
        undo: "SELECT refold.drop_projection('extra'); TRUNCATE extra",
        ..VICTIM
    },
    Victim {
        name: "drop_projection",
        phases: &["gate", "drop"],
        prepare: "SELECT refold.create_projection('extra', 'fold_extra(extra, refold.event)')",
        act: Act::Sql("SELECT refold.drop_projection('extra')"),
        undo: "TRUNCATE extra",
        ..VICTIM
    },
    Victim {
        name: "verify_projection",
        phases: &["verify"],
        act: Act::Sql("SELECT refold.verify_projection('visit')"),
        ..VICTIM
    },
    Victim {
        name: "swap of storage",
        phases: &["swap"],
        prepare: "SELECT refold._shadow_step('cart', 'create')",
        // From the copying to the swap's locks nobody appends, so that both tables have one content.
        act: Act::Sql(
            "DELETE FROM refold_shadow_1.cart; INSERT INTO refold_shadow_1.cart TABLE cart;
             SELECT refold._shadow_step('cart', 'swap')",
        ),
        undo: "SELECT refold._shadow_step('cart', 'drop')",
        ..VICTIM
    },
    Victim {
        name: "concurrent rebuild of a fold",
        phases: &["job", "batch"],
        act: Act::Sql(
            "CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_twice(cart, refold.event)')",
        ),
        resume: "SELECT refold.resume_rebuild('cart')",
        undo: "SELECT refold.rebuild_projection('cart', 'fold_cart(cart, refold.event)')",
        ..VICTIM
    },
    Victim {
        name: "concurrent rebuild per event",
        phases: &["job", "batch"],
        act: Act::Sql(
            "CALL refold.rebuild_projection_concurrently('visit', 'add_visit_twice(refold.event)')",
        ),
        resume: "SELECT refold.resume_rebuild('visit')",
        undo: "SELECT refold.rebuild_projection('visit', 'add_visit(refold.event)')",
        ..VICTIM
    },
    Victim {
        name: "rebuild in place",
        phases: &["in place", "batch"],
        act: Act::Sql(
            "CALL refold.rebuild_projection_concurrently('sale', 'add_sales_twice(refold.event[])', in_place => true)",
        ),
        resume: "SELECT refold.resume_rebuild('sale')",
        in_place: true,
        undo: "SELECT refold.rebuild_projection('sale', 'add_sales(refold.event[])')",
        ..VICTIM
    },
    Victim {
        // In its grace period; then the model that was kept up beside becomes the live one, and is compared.
        name: "append beside a rebuild",
        phases: &["mirror"],
        prepare: "CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_twice(cart, refold.event)', grace => '1 hour')",
        act: Act::Append(2),
        undo: "SELECT refold.rollback_projection('cart')",
        ..VICTIM
    },
];

impl Victim {
    /// Whether it comes there; everybody who writes commits.
    pub fn comes_to(&self, place: &Place) -> bool {
        match place {
            Place::Waitpoint(name) => {
                let phase = name.split(':').next().unwrap_or_default();
                self.phases.contains(&phase)
            }
            // A job commits in many places.
            _ if self.is_job() => false,
            Place::BeforeCommit => true,
            Place::AfterCommitRecord => self.events() > 0 || self.changes_registry(),
        }
    }

    /// The act as SQL; an append's events are marked with the tag.
    pub fn act(&self, tag: &str) -> String {
        match self.act {
            Act::Append(events) => append_sql("victim", tag, events),
            Act::Sql(sql) => sql.to_owned(),
        }
    }

    pub fn is_job(&self) -> bool {
        !self.resume.is_empty()
    }

    /// How many events it appends.
    pub fn events(&self) -> usize {
        match self.act {
            Act::Append(events) => events,
            Act::Sql(_) => 0,
        }
    }

    /// Whether its act, once committed, can be told from the registry.
    pub fn changes_registry(&self) -> bool {
        matches!(self.act, Act::Sql(_)) && !self.phases.contains(&"verify")
    }
}
