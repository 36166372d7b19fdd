//! Whether `docs/errors.md` has the errors that the sources raise, and no others: each by its SQLSTATE and message.
//!
//! A message is written where its error is made, as a literal or the literal of a `format!`: what it puts in shows as `…`.

use anyhow::{Context, Result, ensure};
use regex::Regex;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Expr, ExprCall, ExprLit, ImplItemFn, Lit, Token};

use super::files;
use crate::toolchain::Postgres;

const PAGE: &str = "docs/errors.md";
/// Where the constructors of errors are.
const CONSTRUCTORS: &str = "src/error.rs";

/// SQLSTATE and message.
type Raised = BTreeSet<(String, String)>;

pub fn check(root: &Path, pg: &Postgres) -> Result<()> {
    let codes = Codes::read(&pg.sharedir)?;
    let raised = raised(root, &codes)?;
    let page = fs::read_to_string(root.join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    compare(&raised, &documented(&page)?)
}

fn compare(raised: &Raised, documented: &Raised) -> Result<()> {
    let list = |only: Vec<&(String, String)>, what: &str| -> String {
        only.into_iter().map(|(code, message)| format!("{what}: {code} {message}\n")).collect()
    };
    let missing = list(raised.difference(documented).collect(), "not on the page");
    let gone = list(documented.difference(raised).collect(), "not raised");
    ensure!(missing.is_empty() && gone.is_empty(), "{missing}{gone}");
    Ok(())
}

/// The rows of the page's tables, below the heading of their SQLSTATE.
fn documented(page: &str) -> Result<Raised> {
    let heading = Regex::new(r"^## ([0-9A-Z]{5})\b")?;
    let row = Regex::new(r"^\| `(.+?)` \|")?;
    let mut code = String::new();
    let mut rows = Raised::new();
    for line in page.lines() {
        if let Some(found) = heading.captures(line) {
            code = found[1].to_owned();
        } else if let Some(found) = row.captures(line) {
            ensure!(rows.insert((code.clone(), found[1].to_owned())), "{code} {} is there twice", &found[1]);
        }
    }
    ensure!(!rows.is_empty(), "{PAGE} shows no error");
    Ok(rows)
}

fn raised(root: &Path, codes: &Codes) -> Result<Raised> {
    let constructors = Constructors::read(&fs::read_to_string(root.join(CONSTRUCTORS))?)?;
    let mut raised = Raised::new();
    for file in files(&root.join("src"))?.into_iter().chain(scripts(root)?) {
        let name = file.strip_prefix(root)?.display().to_string();
        let text = fs::read_to_string(&file)?;
        let found = match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") if name == CONSTRUCTORS => Ok(Raised::new()),
            Some("rs") => constructors.of_rust(&text, codes),
            Some("c" | "h") => of_c(&text, codes),
            Some("sql") => of_sql(&text, codes),
            _ => Ok(Raised::new()),
        };
        raised.extend(found.with_context(|| name)?);
    }
    Ok(raised)
}

/// The scripts of `CREATE EXTENSION`, without those of earlier releases in the folders below.
fn scripts(root: &Path) -> Result<Vec<PathBuf>> {
    let folder = root.join("sql");
    Ok(files(&folder)?.into_iter().filter(|file| file.parent() == Some(&folder)).collect())
}

/// SQLSTATEs by their names in C and in PL/pgSQL, from PostgreSQL's own list.
struct Codes(HashMap<String, String>);

impl Codes {
    fn read(sharedir: &Path) -> Result<Self> {
        let file = sharedir.join("errcodes.txt");
        Self::parse(&fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?)
    }

    fn parse(text: &str) -> Result<Self> {
        let line = Regex::new(r"(?m)^([0-9A-Z]{5})\s+[EWS]\s+(ERRCODE_\w+)(?:[ \t]+(\w+))?")?;
        let mut codes = HashMap::new();
        for found in line.captures_iter(text) {
            for name in [found.get(2), found.get(3)].into_iter().flatten() {
                // As PL/pgSQL takes the first of several.
                codes.entry(name.as_str().to_owned()).or_insert_with(|| found[1].to_owned());
            }
        }
        Ok(Self(codes))
    }

    fn of(&self, name: &str) -> Result<String> {
        self.0.get(name).cloned().with_context(|| format!("no SQLSTATE is called {name}"))
    }
}

fn of_c(text: &str, codes: &Codes) -> Result<Raised> {
    let report = Regex::new(r#"errcode\((ERRCODE_\w+)\),\s*errmsg\("((?:[^"\\]|\\.)*)""#)?;
    let raised: Vec<_> =
        report.captures_iter(text).map(|found| (found[1].to_owned(), found[2].to_owned())).collect();
    let reports = text.matches("errcode(ERRCODE_").count();
    ensure!(
        raised.len() == reports,
        "{reports} errors, and {} of them with a message in one piece",
        raised.len()
    );
    let inserted = Regex::new("%[a-z]")?;
    let message = |text: String| inserted.replace_all(&text.replace("\\\"", "\""), "…").into_owned();
    raised.into_iter().map(|(name, text)| Ok((codes.of(&name)?, message(text)))).collect()
}

fn of_sql(text: &str, codes: &Codes) -> Result<Raised> {
    let raise = Regex::new(r"RAISE (\w+) USING MESSAGE = '((?:[^']|'')*)'")?;
    let raised: Vec<_> =
        raise.captures_iter(text).map(|found| (found[1].to_owned(), found[2].replace("''", "'"))).collect();
    let raises = text.matches("RAISE ").count();
    ensure!(raised.len() == raises, "{raises} errors, and {} of them with code and message", raised.len());
    raised.into_iter().map(|(name, text)| Ok((codes.of(&name)?, text))).collect()
}

/// The functions of `Error` that make one: the name of the code, and the message where that is theirs.
type Made = HashMap<String, (String, Option<String>)>;

struct Constructors {
    made: Made,
    /// A call of one of them, or of `Error::new`, in a source.
    call: Regex,
}

impl Constructors {
    fn read(source: &str) -> Result<Self> {
        let mut definitions = Definitions(Made::new());
        definitions.visit_file(&syn::parse_file(source)?);
        let Definitions(made) = definitions;
        ensure!(made.len() > 1, "there are no constructors in {CONSTRUCTORS}");
        let names: Vec<_> = made.keys().map(String::as_str).chain(["new"]).collect();
        let call = Regex::new(&format!(r"\bError::({})\(", names.join("|")))?;
        Ok(Self { made, call })
    }

    fn of_rust(&self, source: &str, codes: &Codes) -> Result<Raised> {
        let mut sites = Sites { made: &self.made, found: Vec::new() };
        sites.visit_file(&syn::parse_file(source)?);
        // What a macro is given is not parsed: an error that is made there would be overlooked.
        let (seen, written) = (sites.found.len(), self.call.find_iter(source).count());
        ensure!(seen == written, "{written} errors, {seen} of them outside of macros");
        let known = |site: Option<(String, String)>| {
            let (name, message) = site.context("an error whose message or code is written elsewhere")?;
            Ok((codes.of(&name)?, message))
        };
        sites.found.into_iter().map(known).collect()
    }
}

/// The functions of an `impl`, as far as they make errors.
struct Definitions(Made);

impl Visit<'_> for Definitions {
    fn visit_impl_item_fn(&mut self, function: &ImplItemFn) {
        let mut calls = Calls(Vec::new());
        calls.visit_block(&function.block);
        for call in calls.0 {
            if called(&call, "Self").as_deref() == Some("new")
                && let Some(code) = call.args.first().and_then(last_name)
            {
                let message = call.args.get(1).and_then(literal);
                self.0.insert(function.sig.ident.to_string(), (code, message));
            }
        }
    }
}

/// All calls in a piece of code.
struct Calls(Vec<ExprCall>);

impl Visit<'_> for Calls {
    fn visit_expr_call(&mut self, call: &ExprCall) {
        self.0.push(call.clone());
        visit::visit_expr_call(self, call);
    }
}

/// The errors that a file makes: code and message of each, as far as they are written there.
struct Sites<'a> {
    made: &'a Made,
    found: Vec<Option<(String, String)>>,
}

impl Visit<'_> for Sites<'_> {
    fn visit_expr_call(&mut self, call: &ExprCall) {
        if let Some(name) = called(call, "Error") {
            let written = |index: usize| call.args.get(index).and_then(literal);
            let found = match self.made.get(&name) {
                None if name == "new" => Some(call.args.first().and_then(last_name).zip(written(1))),
                None => None,
                Some((code, None)) => Some(written(0).map(|message| (code.clone(), message))),
                Some((code, Some(message))) => Some(Some((code.clone(), message.clone()))),
            };
            self.found.extend(found);
        }
        visit::visit_expr_call(self, call);
    }
}

/// The function of this type that is called.
fn called(call: &ExprCall, owner: &str) -> Option<String> {
    let Expr::Path(path) = &*call.func else { return None };
    let mut names = path.path.segments.iter().rev();
    let name = names.next()?.ident.to_string();
    (names.next()?.ident == owner).then_some(name)
}

fn last_name(expression: &Expr) -> Option<String> {
    let Expr::Path(path) = expression else { return None };
    Some(path.path.segments.last()?.ident.to_string())
}

/// The text of a literal, or of the one that a `format!` fills in.
fn literal(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        Expr::Macro(call) if call.mac.path.is_ident("format") => {
            let arguments = call.mac.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated).ok()?;
            Some(with_places(&literal(arguments.first()?)?))
        }
        _ => None,
    }
}

/// What a format puts in, as `…`.
fn with_places(format: &str) -> String {
    let mut parts = format.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "…" + part.split_once('}').map_or(part, |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::{Codes, Constructors, Raised, compare, documented, of_c, of_sql};
    use anyhow::Result;

    const ERROR: &str = "impl Error {
        pub fn new(code: Code, message: impl Into<String>) -> Self { Error::Own(Report { code, message }) }
        pub fn bad(message: impl Into<String>) -> Self { Self::new(Code::ERRCODE_BAD, message) }
        pub fn null(name: &str) -> Self { Self::new(Code::ERRCODE_NULL, format!(\"{name} must not be null\")).hint(\"no\") }
    }";

    fn codes() -> Result<Codes> {
        Codes::parse("Section: Class\n22001    E    ERRCODE_BAD     bad_value\n22004    E    ERRCODE_NULL\n")
    }

    fn rows(rows: &[(&str, &str)]) -> Raised {
        rows.iter().map(|(code, message)| ((*code).to_owned(), (*message).to_owned())).collect()
    }

    #[test]
    fn finds_what_rust_raises() -> Result<()> {
        let of = |source| Constructors::read(ERROR)?.of_rust(source, &codes()?);
        let found = of(r#"fn f() -> Error {
            Err(Error::bad(format!("table \"{}\" is {what}", name)).detail("d")).or_else(|| Error::null("x"))
                .or_else(|_| Error::new(Code::ERRCODE_NULL, "plain"))
        }"#)?;
        assert_eq!(
            found,
            rows(&[("22001", "table \"…\" is …"), ("22004", "… must not be null"), ("22004", "plain")])
        );
        assert!(of(r"fn f() -> Error { Error::bad(message) }").is_err());
        assert!(of(r#"fn f() -> Error { hide!(Error::bad("message")) }"#).is_err());
        assert!(of(r#"fn f() -> Error { Error::new(code, "message") }"#).is_err());
        Ok(())
    }

    #[test]
    fn finds_what_c_and_sql_raise() -> Result<()> {
        let found = of_c("(errcode(ERRCODE_BAD),\n errmsg(\"row of \\\"%s\\\"\", name))", &codes()?)?;
        assert_eq!(found, rows(&[("22001", "row of \"…\"")]));
        assert!(of_c("errcode(ERRCODE_BAD), errmsg(text)", &codes()?).is_err());
        let found = of_sql("RAISE bad_value USING MESSAGE = 'it''s bad';", &codes()?)?;
        assert_eq!(found, rows(&[("22001", "it's bad")]));
        assert!(of_sql("RAISE 'bad';", &codes()?).is_err());
        Ok(())
    }

    #[test]
    fn compares_with_the_page() -> Result<()> {
        let page = documented("## 22001 bad\n\n| message | cause |\n|---|---|\n| `it is \"…\"` | it is |\n")?;
        assert_eq!(page, rows(&[("22001", "it is \"…\"")]));
        assert!(compare(&page, &page).is_ok());
        assert!(compare(&page, &Raised::new()).is_err());
        assert!(compare(&Raised::new(), &page).is_err());
        assert!(documented("# Errors\n").is_err());
        Ok(())
    }
}
