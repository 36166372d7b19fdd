//! Which stream a file's changes belong to.
//!
//! A stream is named by the first path of its file and keeps that name when the file is renamed. A file deleted and
//! made again at its path goes on in its stream. A new file at a path that another was renamed away from is another
//! stream, `path#2`. A change on a branch that does not know of a rename yet belongs to the renamed file's stream.

use std::collections::{HashMap, HashSet};

use super::history::{Change, Kind};

#[derive(Debug, Default)]
pub struct Streams {
    paths: HashMap<String, Track>,
    names: HashSet<String>,
}

#[derive(Debug)]
struct Track {
    stream: String,
    /// The file was renamed away.
    vacated: bool,
}

impl Streams {
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The stream that `change` goes to.
    pub fn assign(&mut self, change: &Change) -> String {
        match &change.kind {
            Kind::Renamed { from } => {
                let stream = self.stream_at(from);
                self.track(from, &stream, true);
                self.track(&change.path, &stream, false);
                stream
            }
            Kind::Added => match self.paths.get(&change.path) {
                Some(track) if !track.vacated => track.stream.clone(),
                _ => {
                    let stream = self.new_name(&change.path);
                    self.track(&change.path, &stream, false);
                    stream
                }
            },
            Kind::Changed | Kind::Deleted => self.stream_at(&change.path),
        }
    }

    fn stream_at(&mut self, path: &str) -> String {
        if let Some(track) = self.paths.get(path) {
            return track.stream.clone();
        }
        // The history begins in the middle: a shallow clone.
        let stream = self.new_name(path);
        self.track(path, &stream, false);
        stream
    }

    fn track(&mut self, path: &str, stream: &str, vacated: bool) {
        self.paths.insert(path.to_owned(), Track { stream: stream.to_owned(), vacated });
    }

    fn new_name(&mut self, path: &str) -> String {
        let mut name = path.to_owned();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            number += 1;
            name = format!("{path}#{number}");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: Kind, path: &str) -> Change {
        Change { kind, path: path.to_owned(), lines: None }
    }

    fn renamed(from: &str, to: &str) -> Change {
        change(Kind::Renamed { from: from.to_owned() }, to)
    }

    fn assign(changes: &[Change]) -> Vec<String> {
        let mut streams = Streams::default();
        changes.iter().map(|change| streams.assign(change)).collect()
    }

    #[test]
    fn a_renamed_file_keeps_its_stream() {
        let streams = assign(&[
            change(Kind::Added, "a"),
            renamed("a", "b"),
            change(Kind::Changed, "b"),
            renamed("b", "c"),
            change(Kind::Deleted, "c"),
        ]);
        assert_eq!(streams, ["a"; 5]);
    }

    #[test]
    fn a_new_file_at_a_vacated_path_is_another_stream() {
        let streams = assign(&[
            change(Kind::Added, "a"),
            renamed("a", "b"),
            change(Kind::Added, "a"),
            change(Kind::Changed, "b"),
            change(Kind::Changed, "a"),
        ]);
        assert_eq!(streams, ["a", "a", "a#2", "a", "a#2"]);
    }

    #[test]
    fn a_branch_that_does_not_know_the_rename_meets_the_same_stream() {
        assert_eq!(
            assign(&[change(Kind::Added, "a"), renamed("a", "b"), change(Kind::Changed, "a")]),
            ["a"; 3]
        );
    }

    #[test]
    fn a_file_made_again_goes_on() {
        let changes = [change(Kind::Added, "a"), change(Kind::Deleted, "a"), change(Kind::Added, "a")];
        assert_eq!(assign(&changes), ["a"; 3]);
    }

    #[test]
    fn a_path_that_looks_like_a_numbered_stream_is_not_taken_for_it() {
        let streams = assign(&[
            change(Kind::Added, "a#2"),
            change(Kind::Added, "a"),
            renamed("a", "b"),
            change(Kind::Added, "a"),
        ]);
        assert_eq!(streams, ["a#2", "a", "a", "a#3"]);
    }

    #[test]
    fn a_shallow_history_may_begin_with_a_rename() {
        assert_eq!(assign(&[renamed("a", "b"), change(Kind::Changed, "b")]), ["a"; 2]);
    }
}
