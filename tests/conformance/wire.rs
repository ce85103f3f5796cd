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
    /// None in the table of accepted packets.
    reason: Option<String>,
    /// In which version a CONNACK answers.
    connack: Option<u8>,
}

/// The rows of `table` that a client of that version may send, each as a case like `case`. After `retained` in the
/// table's name: those accepted packets that are to be retained.
pub fn rows(case: &Case, table: &str, version: u8) -> Vec<Case> {
    let (table, retained) = table.split_once(' ').unwrap_or((table, ""));
    let text = std::fs::read_to_string(here("../wire").join(table)).expect("the table");
    let rows: Vec<Row> = serde_json::from_str(&text).expect("is a table");
    let mine = |row: &&Row| {
        // The protocol level of a CONNECT says its version, where it has one.
        let own = if row.hex.starts_with("10") && row.hex.get(16..18) == Some("04") { 4 } else { 5 };
        let of = match (row.version, &row.reason) {
            (0, Some(_)) => row.connack.unwrap_or(5),
            (0, None) => own,
            (version, _) => version,
        };
        let retains = row.reason.is_none() && matches!(row.hex.get(..2), Some("31" | "33" | "35" | "3d"));
        row.from == "client" && of == version && retains == (retained == "retained")
    };
    rows.iter().filter(mine).map(|row| one(case, row)).collect()
}

fn one(case: &Case, row: &Row) -> Case {
    let packet = format!("  a> raw {}\n", row.hex);
    let steps = match (row.version, row.connack, &row.reason) {
        (0, None, Some(_)) => format!("{packet}  a< close\n"),
        (0, Some(_), Some(reason)) => format!("{packet}  a< refuse {reason} {}\n", return_code(reason)),
        (_, _, Some(reason)) => format!("  a! up\n{packet}  a< end {reason}\n"),
        // Well formed, but from nobody who is known.
        (0, _, None) => format!("{packet}  a< refuse 0x86|0x8c 4\n"),
        (_, _, None) => format!("  a! up\n{packet}  a! {}\n", outcome(&row.hex)),
    };
    let mut parsed = parse("tests/wire", &format!("case x: y\n{steps}")).expect("is a case");
    let Case { steps, .. } = parsed.remove(0);
    Case { name: format!("{} / {}", case.name, row.name), table: None, steps, ..case.clone() }
}

/// What an accepted packet, alone on its connection, leads to.
fn outcome(hex: &str) -> &'static str {
    match hex.get(..1) {
        // There is no authentication to go on with.
        Some("f") => "ended code=0x82",
        // An alias that nobody set, and one above the maximum.
        Some("3") if hex.starts_with("30070000") => "ended code=0x82",
        Some("3") if hex.contains("23ffff") => "ended code=0x94",
        // A session that was not to be kept cannot be kept after all.
        Some("e") if hex.contains("0511ffffffff") => "ended code=0x82",
        Some("e") => "gone",
        _ => "alive",
    }
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
