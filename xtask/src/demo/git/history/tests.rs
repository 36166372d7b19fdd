use super::super::sample::{empty_repository, sample_repository};
use super::*;

fn commits(output: &[u8]) -> Result<Vec<Commit>> {
    let mut history = History::new(output);
    let mut commits = Vec::new();
    while let Some(commit) = history.next_commit()? {
        commits.push(commit);
    }
    Ok(commits)
}

fn change(kind: Kind, path: &str, lines: Option<(u64, u64)>) -> Change {
    Change { kind, path: path.to_owned(), lines }
}

#[test]
fn every_kind_of_change_is_read() -> Result<()> {
    let output =
        b"\x01c1\0Ada\0ada@x\x0017\0one\0\n:000000 100644 00 9a A\0a b\0:000000 100644 00 83 A\0bin\0\
                   5\t0\ta b\0-\t-\tbin\0\
                   \x01c2\0Bob\0\x0018\0\0\n:100644 100644 9a 9b R090\0a b\0c\0:100644 000000 83 00 D\0bin\0\
                   2\t1\t\0a b\0c\0-\t-\tbin\0";
    let commits = commits(output)?;
    assert_eq!(commits.len(), 2);
    assert_eq!((commits[0].author.as_str(), commits[0].time), ("Ada", 17));
    assert_eq!(
        commits[0].changes,
        [change(Kind::Added, "a b", Some((5, 0))), change(Kind::Added, "bin", None)]
    );
    assert_eq!((commits[1].email.as_str(), commits[1].subject.as_str()), ("", ""));
    let renamed = Kind::Renamed { from: "a b".to_owned() };
    assert_eq!(commits[1].changes, [change(renamed, "c", Some((2, 1))), change(Kind::Deleted, "bin", None)]);
    Ok(())
}

#[test]
fn a_merge_has_no_changes() -> Result<()> {
    let output = b"\x01c1\0A\0a\x001\0merge\0\x01c2\0A\0a\x002\0empty\0";
    let commits = commits(output)?;
    assert_eq!(commits.len(), 2);
    assert!(commits.iter().all(|commit| commit.changes.is_empty()));
    Ok(())
}

#[test]
fn odd_paths_are_read_by_their_place() -> Result<()> {
    let path = ":1\t2\n\x01";
    let output = format!("\x01c\0A\0a\x001\0s\0\n:0 1 0 9 M\0{path}\x001\t1\t{path}\0");
    assert_eq!(commits(output.as_bytes())?[0].changes, [change(Kind::Changed, path, Some((1, 1)))]);
    Ok(())
}

#[test]
fn what_git_would_not_say_is_refused() {
    for output in
        [&b"x\0"[..], b"\x01c\0A\0", b"\x01c\0A\0a\0now\0s\0", b"\x01c\0A\0a\x001\0s\0\n:0 1 0 9 M\0a\0"]
    {
        assert!(commits(output).is_err(), "{output:?}");
    }
}

#[test]
fn a_real_repository_is_read_and_summed_alike() -> Result<()> {
    let folder = sample_repository()?;
    let repository = Repository::open(folder.path())?;
    assert_eq!(repository.commits, 8);
    let mut reader = Reader::open(&repository)?;
    let mut changes = Vec::new();
    while let Some(commit) = reader.next_commit()? {
        changes.extend(commit.changes);
    }
    let text = changes.iter().filter_map(|change| change.lines);
    let totals = repository.totals()?;
    assert_eq!(totals.changes, changes.len() as u64);
    assert_eq!(text.clone().map(|(added, _)| added).sum::<u64>(), totals.added);
    assert_eq!(text.clone().map(|(_, removed)| removed).sum::<u64>(), totals.removed);
    assert_eq!(changes.iter().filter(|change| change.lines.is_none()).count() as u64, totals.binary);
    assert!(changes.iter().any(|change| matches!(change.kind, Kind::Renamed { .. })));
    assert!(totals.binary > 0 && totals.removed > 0);
    Ok(())
}

#[test]
fn an_empty_repository_and_no_repository_are_told_apart() -> Result<()> {
    let nothing = tempfile::tempdir()?;
    let error = format!("{:#}", Repository::open(nothing.path()).err().context("no error")?);
    assert!(error.contains("not a git repository"), "{error}");
    let empty = empty_repository()?;
    let error = format!("{:#}", Repository::open(empty.path()).err().context("no error")?);
    assert!(error.contains("has no commits yet"), "{error}");
    Ok(())
}
