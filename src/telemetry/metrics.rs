//! Metrics in the Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write};

/// One page of metrics, written from the top.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// A family of counters: values that only rise, from the start of the process.
    pub fn counters<L: AsRef<[(&'static str, String)]>>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) {
        self.family(name, help, "counter", values);
    }

    /// A family of gauges.
    pub fn gauges<L: AsRef<[(&'static str, String)]>, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) {
        self.family(name, help, "gauge", values);
    }

    /// One counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, [([], value)]);
    }

    /// One gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.gauges(name, help, [([], value)]);
    }

    fn family<L: AsRef<[(&'static str, String)]>, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        kind: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) {
        // Writing to a String does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in values {
            let labels: Vec<String> =
                labels.as_ref().iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
            let _ = match labels.is_empty() {
                true => writeln!(self.0, "{name} {value}"),
                false => writeln!(self.0, "{name}{{{}}} {value}", labels.join(",")),
            };
        }
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.0
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_help_type_labels_and_escapes() {
        let mut page = Page::default();
        page.counter("a_total", "All of a.", 3);
        page.gauges("b", "Some b.", [([("reason", "x\"y".to_owned())], 1.5)]);
        assert_eq!(
            page.into_text(),
            "# HELP a_total All of a.\n# TYPE a_total counter\na_total 3\n\
             # HELP b Some b.\n# TYPE b gauge\nb{reason=\"x\\\"y\"} 1.5\n"
        );
    }
}
