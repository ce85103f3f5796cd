//! docs/reference/clients.md.

use std::fmt::Write;

use super::{LIBRARIES, Library, SCHEMES, TRANSCRIPTS, VERSIONS};

const HEAD: &str = include_str!("page.md");

/// The page.
pub fn page() -> String {
    let mut page = format!("{HEAD}\n| library | MQTT |");
    SCHEMES.iter().for_each(|scheme| write!(page, " {scheme} |").expect("text"));
    page.push_str("\n| --- | --- | --- | --- | --- | --- |\n");
    let mut reasons = Vec::new();
    for library in LIBRARIES {
        for version in VERSIONS {
            let title = [library.title, library.version.unwrap_or("of Debian")].join(" ");
            write!(page, "| {title} | {} |", if version == 5 { "5.0" } else { "3.1.1" }).expect("text");
            for scheme in SCHEMES {
                write!(page, " {} |", cell(library, scheme, version, &mut reasons)).expect("text");
            }
            page.push('\n');
        }
    }
    page.push('\n');
    for (number, why) in reasons.iter().enumerate() {
        writeln!(page, "{}. It {why}.", number + 1).expect("text");
    }
    page
}

/// What is played there; the reasons for what is not have numbers.
fn cell(library: &Library, scheme: &str, version: u8, reasons: &mut Vec<&'static str>) -> String {
    let mut number = |why| {
        let at = reasons.iter().position(|known| *known == why).unwrap_or_else(|| {
            reasons.push(why);
            reasons.len() - 1
        });
        at + 1
    };
    let missing: Vec<(&str, usize)> = library
        .transcripts()
        .filter_map(|name| Some((name, number(library.cannot(scheme, version, name)?.why))))
        .collect();
    let played = TRANSCRIPTS.len() + library.extra.len() - missing.len();
    match &missing[..] {
        [] if library.extra.is_empty() => "all".into(),
        [] => format!("all, {}", library.extra.join(", ")),
        [(_, why), ..] if played == 0 => format!("none ({why})"),
        some => {
            let names = some.iter().map(|(name, why)| format!("{name} ({why})"));
            format!("all but {}", names.collect::<Vec<_>>().join(", "))
        }
    }
}
