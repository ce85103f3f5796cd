//! The tables of malformed packets in `tests/wire`, which the codec's own tests read too, as cases.

use serde::Deserialize;

use crate::script::{Case, parse};
use crate::statements::here;

#[derive(Deserialize)]
struct Row {
    name: String,
    /// 4 or 5; 0 is before CONNECT.
    version: u8,
    from: String,
    hex: String,
    reason: String,
    /// In which version a CONNACK answers.
    connack: Option<u8>,
}

/// The rows of `table` that a client of that version may send, each as a case like `case`.
pub fn rows(case: &Case, table: &str, version: u8) -> Vec<Case> {
    let text = std::fs::read_to_string(here("../wire").join(table)).expect("the table");
    let rows: Vec<Row> = serde_json::from_str(&text).expect("is a table");
    let mine = |row: &&Row| {
        let of = if row.version == 0 { row.connack.unwrap_or(5) } else { row.version };
        row.from == "client" && of == version
    };
    rows.iter().filter(mine).map(|row| one(case, row)).collect()
}

fn one(case: &Case, row: &Row) -> Case {
    let packet = format!("  a> raw {}\n", row.hex);
    let steps = match (row.version, row.connack) {
        (0, None) => format!("{packet}  a< close\n"),
        (0, Some(_)) => format!("{packet}  a< refuse {} {}\n", row.reason, return_code(&row.reason)),
        _ => format!("  a! up\n{packet}  a< end {}\n", row.reason),
    };
    let mut parsed = parse("tests/wire", &format!("case x: y\n{steps}")).expect("is a case");
    let Case { steps, .. } = parsed.remove(0);
    Case { name: format!("{} / {}", case.name, row.name), table: None, steps, ..case.clone() }
}

/// What MQTT 3.1.1 says for it in a CONNACK (§3.2.2.3).
fn return_code(reason: &str) -> u8 {
    match reason {
        "0x84" => 1,
        "0x85" => 2,
        // Server unavailable, for whatever else may pass.
        _ => 3,
    }
}
