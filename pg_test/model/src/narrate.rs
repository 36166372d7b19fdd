//! An interleaving in words.

use crate::program::COMMITS;
use crate::properties::{Fault, What};
use crate::world::{Action, Instance, World};
use std::fmt::Write;

/// What happens, step by step, and what is wrong in the end. Steps of one session that nobody comes between are one
/// number.
pub fn interleaving(instance: &Instance, path: &[(World, Action)], last: &World) -> String {
    let mut paragraphs: Vec<(usize, Vec<String>)> = Vec::new();
    for (world, action) in path {
        let (Action::Step(session) | Action::Other(session) | Action::Kill(session)) = *action;
        let mut told = Vec::new();
        instance.tell(world, *action, &mut told);
        match paragraphs.last_mut() {
            Some((same, words)) if *same == session => words.append(&mut told),
            _ => paragraphs.push((session, told)),
        }
    }
    let mut text = String::new();
    for (number, (session, words)) in (1..).zip(&paragraphs) {
        let name = &instance.programs[*session].name;
        let head = format!("{number:2}. {}: ", capital(name));
        text.push_str(&wrap(&head, &format!("{}.", commits_in_one(words).join("; "))));
    }
    if let Some(fault) = instance.fault(last) {
        let _ = write!(text, "{}", wrap(" => ", &in_words(instance, last, &fault)));
    }
    text
}

/// A commit that nobody comes between is one thing.
fn commits_in_one(words: &[String]) -> Vec<&str> {
    let mut shorter: Vec<&str> = Vec::new();
    for word in words {
        shorter.push(word);
        let whole =
            [&COMMITS[..], &[COMMITS[0], COMMITS[2]]].into_iter().find(|whole| shorter.ends_with(whole));
        if let Some(whole) = whole {
            shorter.truncate(shorter.len() - whole.len());
            shorter.push("commits");
        }
    }
    shorter
}

fn in_words(instance: &Instance, world: &World, fault: &Fault) -> String {
    let place = match fault.snapshot_of {
        Some(session) => format!("In the snapshot that {} keeps", instance.programs[session].name),
        None => "In a new snapshot".into(),
    };
    match fault.what {
        What::Lost(position) => format!("{place}, event {position} is in the log and not in the model."),
        What::Twice(position) => format!("{place}, event {position} is in the model twice."),
        What::Unseen(position) => {
            format!("{place}, event {position} is in the model, and not among those that it is to show.")
        }
        What::TooEarly(position) => format!("{place}, event {position} was applied before an earlier one."),
        What::Mixed => format!("{place}, one part of the model is of the old logic and one of the new."),
        What::Stuck => {
            let waiting: Vec<_> =
                world.sessions.iter().filter(|session| !instance.has_ended(session)).collect();
            let names: Vec<_> =
                waiting.iter().map(|session| instance.programs[session.number].name.as_str()).collect();
            format!("A deadlock: {} wait for each other.", names.join(" and "))
        }
    }
}

/// The fault in two or three words.
pub fn verdict(fault: &Fault) -> &'static str {
    match fault.what {
        What::Lost(_) => "loses an event",
        What::Twice(_) => "applies one twice",
        What::Unseen(_) => "applies too much",
        What::TooEarly(_) => "breaks the order",
        What::Mixed => "mixes two logics",
        What::Stuck => "deadlocks",
    }
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Lines of at most 100 characters, those after the first indented.
fn wrap(head: &str, text: &str) -> String {
    let mut lines = head.to_owned();
    let mut width = head.chars().count();
    for word in text.split_whitespace() {
        let length = word.chars().count() + 1;
        if width + length > 100 {
            lines.push_str("\n    ");
            width = 4;
        } else if !lines.ends_with(' ') {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += length - 1;
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_at_words() {
        let text = "word ".repeat(30);
        let lines = wrap(" 1. A: ", &text);
        assert!(lines.lines().count() == 2 && lines.lines().all(|line| line.len() <= 100), "{lines}");
        assert_eq!(wrap(" 1. A: ", "does this"), " 1. A: does this\n");
        assert_eq!(capital("append A"), "Append A");
    }
}
