//! The statements of both standards, what is tested of them, and the page that shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::script::{Case, parse};

/// A numbered statement.
pub struct Statement {
    /// `v5/MQTT-3.1.0-2`.
    pub id: String,
    /// `client`, `server` or `both`.
    pub who: String,
    pub requirement: String,
}

/// A folder or file of these tests.
pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(path)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(here(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The statements of both versions, version 5 first.
pub fn statements() -> Vec<Statement> {
    let tables = [("v5", text("statements-v5.csv")), ("v3", text("statements-v311.csv"))];
    let rows = tables.iter().flat_map(|(version, text)| text.lines().skip(1).map(move |line| (version, line)));
    rows.map(|(version, line)| {
        let cells = cells(line);
        Statement { id: format!("{version}/{}", cells[0]), who: cells[1].clone(), requirement: cells[3].clone() }
    })
    .collect()
}

fn cells(line: &str) -> Vec<String> {
    let (mut all, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.trim_end().chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    all.push(cell);
    all
}

/// All cases, in the order of their files.
pub fn cases() -> Vec<Case> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(here("cases")).expect("the cases").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a case file");
        let name = path.file_name().expect("has a name").to_string_lossy().into_owned();
        all.extend(parse(&name, &text).unwrap_or_else(|why| panic!("{why}")));
    }
    all
}

/// Why a statement has no test, by its ID.
pub fn reasons() -> BTreeMap<String, String> {
    let text = text("unobserved.txt");
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (id, reason) = line.split_once(": ").unwrap_or_else(|| panic!("unobserved.txt: `id: reason`: {line}"));
            (id.to_owned(), reason.to_owned())
        })
        .collect()
}

/// What does not agree.
pub fn disagreements(statements: &[Statement], cases: &[Case], reasons: &BTreeMap<String, String>) -> Vec<String> {
    let known: BTreeSet<&str> = statements.iter().map(|statement| statement.id.as_str()).collect();
    let mut tested: BTreeSet<&str> = BTreeSet::new();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut wrong = Vec::new();
    for case in cases {
        if !names.insert(&case.name) {
            wrong.push(format!("{}: a second case {}", case.at, case.name));
        }
        if case.ids.is_empty() {
            wrong.push(format!("{}: {} names no statement", case.at, case.name));
        }
        for id in &case.ids {
            tested.insert(id);
            if !known.contains(id.as_str()) {
                wrong.push(format!("{}: {} names {id}, which is no statement", case.at, case.name));
            }
        }
    }
    for statement in statements {
        let (id, binds) = (statement.id.as_str(), statement.who != "client");
        match (tested.contains(id), reasons.contains_key(id)) {
            (false, false) if binds => wrong.push(format!("{id} has neither a test nor a reason why not")),
            (true, true) => wrong.push(format!("{id} has a test, and a reason why it has none")),
            _ => {}
        }
    }
    for (id, reason) in reasons {
        if !known.contains(id.as_str()) {
            wrong.push(format!("unobserved.txt: {id} is no statement"));
        }
        if reason.trim().is_empty() {
            wrong.push(format!("unobserved.txt: {id} has no reason"));
        }
    }
    wrong
}

/// What became of a statement, in the table's words.
fn result(statement: &Statement, tests: &[&Case], reasons: &BTreeMap<String, String>) -> String {
    if let Some(reason) = reasons.get(&statement.id) {
        return format!("not observable: {reason}");
    }
    if tests.is_empty() {
        return "binds clients only".into();
    }
    if tests.iter().any(|case| case.pending.is_none()) {
        return "passes".into();
    }
    let waits: BTreeSet<&str> = tests.iter().filter_map(|case| case.pending.as_deref()).collect();
    format!("not yet: {}", waits.into_iter().collect::<Vec<_>>().join(", "))
}

/// The page `docs/reference/conformance.md`.
pub fn page(statements: &[Statement], cases: &[Case], reasons: &BTreeMap<String, String>) -> String {
    let mut out = text("page.md");
    let tests_of = |id: &str| cases.iter().filter(|case| case.ids.iter().any(|of| of == id)).collect::<Vec<_>>();
    for (prefix, title) in [("v5/", "MQTT 5.0"), ("v3/", "MQTT 3.1.1")] {
        let rows: Vec<(&Statement, Vec<&Case>, String)> = statements
            .iter()
            .filter(|statement| statement.id.starts_with(prefix))
            .map(|statement| {
                let tests = tests_of(&statement.id);
                let result = result(statement, &tests, reasons);
                (statement, tests, result)
            })
            .collect();
        let count = |wanted: &str| rows.iter().filter(|(_, _, result)| result.starts_with(wanted)).count();
        let _ = write!(
            out,
            "\n## {title}\n\n{} statements: {} pass, {} not yet, {} not observable, {} bind clients only.\n\n\
             | statement | requirement | tests | result |\n| --- | --- | --- | --- |\n",
            rows.len(),
            count("passes"),
            count("not yet"),
            count("not observable"),
            count("binds clients"),
        );
        for (statement, tests, result) in rows {
            let names: Vec<String> = tests.iter().map(|case| format!("`{}`", case.name)).collect();
            let requirement = statement.requirement.replace('|', "\\|").replace('#', "\\#");
            let _ = writeln!(out, "| {} | {requirement} | {} | {result} |", statement.id, names.join(", "));
        }
    }
    out
}
