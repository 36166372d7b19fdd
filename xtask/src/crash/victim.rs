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
    /// Takes back what its act has done.
    pub undo: &'static str,
}

enum Act {
    /// An append of this many events.
    Append(usize),
    Sql(&'static str),
}

/// A new kind of command, or of process, gets a line here: whichever process waits at the waitpoint is killed.
pub const VICTIMS: [Victim; 9] = [
    Victim { name: "append of 3 events", phases: &["append"], prepare: "", act: Act::Append(3), undo: "" },
    Victim { name: "append of 1 event", phases: &["append"], prepare: "", act: Act::Append(1), undo: "" },
    Victim {
        name: "rebuild of a fold",
        phases: &["rebuild", "build", "gate"],
        prepare: "",
        act: Act::Sql("SELECT refold.rebuild_projection('cart', 'fold_cart_twice(cart, refold.event)')"),
        undo: "SELECT refold.rebuild_projection('cart', 'fold_cart(cart, refold.event)')",
    },
    Victim {
        name: "rebuild per event",
        phases: &["rebuild", "build", "gate"],
        prepare: "",
        act: Act::Sql("SELECT refold.rebuild_projection('visit', 'add_visit_twice(refold.event)')"),
        undo: "SELECT refold.rebuild_projection('visit', 'add_visit(refold.event)')",
    },
    Victim {
        name: "rebuild per batch",
        phases: &["rebuild", "build", "gate"],
        prepare: "",
        act: Act::Sql("SELECT refold.rebuild_projection('sale', 'add_sales_twice(refold.event[])')"),
        undo: "SELECT refold.rebuild_projection('sale', 'add_sales(refold.event[])')",
    },
    Victim {
        name: "create_projection",
        phases: &["build", "gate"],
        prepare: "",
        act: Act::Sql("SELECT refold.create_projection('extra', 'fold_extra(extra, refold.event)')"),
        undo: "SELECT refold.drop_projection('extra'); TRUNCATE extra",
    },
    Victim {
        name: "drop_projection",
        phases: &["gate", "drop"],
        prepare: "SELECT refold.create_projection('extra', 'fold_extra(extra, refold.event)')",
        act: Act::Sql("SELECT refold.drop_projection('extra')"),
        undo: "TRUNCATE extra",
    },
    Victim {
        name: "verify_projection",
        phases: &["verify"],
        prepare: "",
        act: Act::Sql("SELECT refold.verify_projection('visit')"),
        undo: "",
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
