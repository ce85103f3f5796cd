//! What commands print: tables for people, JSON for programs.

use std::io::Write as _;

use clap::ValueEnum;
use serde_json::Value;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Prints text and a line's end. A reader that has gone away (`| head`) is no failure.
pub(super) fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a list of objects.
pub(super) fn list(output: Output, columns: &[&str], objects: &[Value]) {
    match output {
        Output::Json => json(&Value::Array(objects.to_vec())),
        Output::Table => print(&table(columns, objects)),
    }
}

/// Prints one object; for people, its `fields` in this order.
pub(super) fn object(output: Output, fields: &[&str], object: &Value) {
    match output {
        Output::Json => json(object),
        Output::Table => {
            let width = fields.iter().map(|field| field.len()).max().unwrap_or(0);
            let lines = fields.iter().map(|field| format!("{field:width$}  {}", cell(&object[*field])));
            print(&lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Prints that something is done, for people; programs have the exit code, and an empty object.
pub(super) fn done(output: Output, what: &str) {
    match output {
        Output::Table => print(what),
        Output::Json => print("{}"),
    }
}

/// Prints JSON with line breaks.
pub(super) fn json(value: &Value) {
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}

fn table(columns: &[&str], objects: &[Value]) -> String {
    let heads = columns.iter().map(|column| column.replace('_', " ").to_uppercase()).collect();
    let row = |object: &Value| columns.iter().map(|column| cell(&object[*column])).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heads).chain(objects.iter().map(row)).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned() {
        let objects = [json!({"name": "a", "created_on": "now", "n": [1, 2]}), json!({"name": "longer", "n": null})];
        let lines = "NAME    CREATED ON  N\na       now         1,2\nlonger  -           -";
        assert_eq!(table(&["name", "created_on", "n"], &objects), lines);
    }
}
