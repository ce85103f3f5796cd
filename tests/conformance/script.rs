//! The case files: what is in them, and what their words stand for. cases/README.md tells how one is written.

use std::collections::BTreeMap;

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub title: String,
    /// The statements that it checks, as `v5/MQTT-...`.
    pub ids: Vec<String>,
    /// The feature, or the bug, without which it fails.
    pub pending: Option<String>,
    /// `tcp` or `ws`, where it is about one of them.
    pub only: Option<String>,
    /// Which of the runner's brokers.
    pub broker: String,
    /// Client IDs that must be these; the others are made up.
    pub named: BTreeMap<String, String>,
    /// What topics a client's credential is for, where that is not all.
    pub acl: BTreeMap<String, String>,
    /// A table of `tests/wire` that it runs instead of steps.
    pub table: Option<String>,
    pub steps: Vec<Step>,
    /// File and line.
    pub at: String,
}

impl Case {
    /// The versions that it is about: 5, 4.
    pub fn versions(&self) -> Vec<u8> {
        let has = |prefix: &str| self.ids.iter().any(|id| id.starts_with(prefix));
        [(5, "v5/"), (4, "v3/")].into_iter().filter(|(_, prefix)| has(prefix)).map(|(version, _)| version).collect()
    }

    /// The clients: a letter each, a letter and a number for each further connection.
    pub fn connections(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.steps.iter().map(|step| step.conn.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `>`: sends a packet.
    Send,
    /// `<`: the next packet is this.
    Expect,
    /// `<?`: one of the next packets is this; those beside it come in any order.
    ExpectAmong,
    /// `!`: something else.
    Do,
}

/// One line of a case.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its line in the file.
    pub line: usize,
    /// Its text.
    pub text: String,
    /// Only in this version.
    pub version: Option<u8>,
    /// Who.
    pub conn: String,
    pub verb: Verb,
    /// The packet or the deed.
    pub what: String,
    pub words: Vec<Word>,
}

/// `key=value`, or a word alone.
#[derive(Clone, Debug)]
pub struct Word {
    pub key: String,
    pub op: Op,
    /// Not expanded yet.
    pub value: String,
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Bare,
    Is,
    IsNot,
    AtMost,
    AtLeast,
}

/// Reads a file of cases.
pub fn parse(file: &str, text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let wrong = |why: &str| format!("{file}:{number}: {why}: {line}");
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if let Some(head) = line.strip_prefix("case ") {
            let (name, title) = head.split_once(": ").ok_or_else(|| wrong("a case is `case name: title`"))?;
            cases.push(Case {
                name: name.trim().into(),
                title: title.trim().into(),
                ids: Vec::new(),
                pending: None,
                only: None,
                broker: "standard".into(),
                named: BTreeMap::new(),
                acl: BTreeMap::new(),
                table: None,
                steps: Vec::new(),
                at: format!("{file}:{number}"),
            });
            continue;
        }
        let case = cases.last_mut().ok_or_else(|| wrong("it belongs to no case"))?;
        let (head, rest) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
        match head {
            "ids" => case.ids.extend(rest.split_whitespace().map(Into::into)),
            "pending" => case.pending = Some(rest.trim().into()),
            "only" => case.only = Some(rest.trim().into()),
            "broker" => case.broker = rest.trim().into(),
            "table" => case.table = Some(rest.trim().into()),
            "as" | "acl" => {
                let (letter, value) = rest.split_once('=').ok_or_else(|| wrong("it is letter=value"))?;
                let map = if head == "as" { &mut case.named } else { &mut case.acl };
                map.insert(letter.into(), value.into());
            }
            _ => case.steps.push(step(number, trimmed).map_err(|why| wrong(&why))?),
        }
    }
    Ok(cases)
}

fn step(line: usize, text: &str) -> Result<Step, String> {
    let (version, rest) = match text.split_once('|') {
        Some(("5", rest)) => (Some(5), rest.trim()),
        Some(("4", rest)) => (Some(4), rest.trim()),
        _ => (None, text),
    };
    let at = rest.find(['>', '<', '!']).ok_or("a step is `client> packet`, `client< packet` or `client! deed`")?;
    let conn = &rest[..at];
    if conn.is_empty() || !conn.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err("a step begins with a client".into());
    }
    let (verb, length) = match &rest[at..] {
        more if more.starts_with("<?") => (Verb::ExpectAmong, 2),
        more if more.starts_with('<') => (Verb::Expect, 1),
        more if more.starts_with('>') => (Verb::Send, 1),
        _ => (Verb::Do, 1),
    };
    let mut words = tokens(&rest[at + length..])?.into_iter();
    let what = words.next().ok_or("it does not say what")?;
    let words = words.map(|token| word(&token)).collect();
    Ok(Step { line, text: text.into(), version, conn: conn.into(), verb, what, words })
}

/// Splits at blanks outside of quotation marks.
fn tokens(text: &str) -> Result<Vec<String>, String> {
    let (mut all, mut token, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                token.push(c);
            }
            '\\' if quoted => {
                token.push(c);
                token.extend(chars.next());
            }
            c if c.is_whitespace() && !quoted => {
                if !token.is_empty() {
                    all.push(std::mem::take(&mut token));
                }
            }
            c => token.push(c),
        }
    }
    if quoted {
        return Err("a quotation mark is missing".into());
    }
    if !token.is_empty() {
        all.push(token);
    }
    Ok(all)
}

fn word(token: &str) -> Word {
    let key_end = token.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(token.len());
    let (key, rest) = token.split_at(key_end);
    let (op, value) = if let Some(value) = rest.strip_prefix("<=") {
        (Op::AtMost, value)
    } else if let Some(value) = rest.strip_prefix(">=") {
        (Op::AtLeast, value)
    } else if let Some(value) = rest.strip_prefix("!=") {
        (Op::IsNot, value)
    } else if let Some(value) = rest.strip_prefix('=') {
        (Op::Is, value)
    } else {
        return Word { key: token.into(), op: Op::Bare, value: String::new() };
    };
    Word { key: key.into(), op, value: value.into() }
}

/// What a value stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `-`: the field is not there.
    Absent,
    /// `?name`: any value, to be remembered.
    Bind(String),
    /// These bytes.
    Bytes(Vec<u8>),
}

/// What `{name}` and `$name` stand for.
pub type Variables = BTreeMap<String, Vec<u8>>;

/// Expands a value: `{name}` and `$name`, quoted parts with escapes, and `"..."*9` for repetition.
pub fn expand(value: &str, variables: &Variables) -> Result<Value, String> {
    if value == "-" {
        return Ok(Value::Absent);
    }
    if let Some(name) = value.strip_prefix('?') {
        return Ok(Value::Bind(name.into()));
    }
    let known = |name: &str| variables.get(name).ok_or_else(|| format!("nothing is called {name:?}"));
    if let Some(name) = value.strip_prefix('$').filter(|name| variables.contains_key(*name)) {
        return known(name).cloned().map(Value::Bytes);
    }
    let mut out = Vec::new();
    let mut rest = value;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix('"') {
            let (part, mut more) = quoted(after, variables)?;
            let mut times = 1;
            if let Some(count) = more.strip_prefix('*') {
                let end = count.find(|c: char| !c.is_ascii_digit()).unwrap_or(count.len());
                times = count[..end].parse().map_err(|_| "how often?")?;
                more = &count[end..];
            }
            out.extend(part.repeat(times));
            rest = more;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (name, more) = after.split_once('}').ok_or("a brace is missing")?;
            out.extend(known(name)?);
            rest = more;
        } else {
            out.extend(c.to_string().bytes());
            rest = &rest[c.len_utf8()..];
        }
    }
    Ok(Value::Bytes(out))
}

fn quoted<'a>(text: &'a str, variables: &Variables) -> Result<(Vec<u8>, &'a str), String> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        let c = rest.chars().next().ok_or("a quotation mark is missing")?;
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => return Ok((out, rest)),
            '{' => {
                let (name, more) = rest.split_once('}').ok_or("a brace is missing")?;
                out.extend(variables.get(name).ok_or_else(|| format!("nothing is called {name:?}"))?);
                rest = more;
            }
            '\\' => {
                let escaped = rest.chars().next().ok_or("an escape is cut short")?;
                rest = &rest[escaped.len_utf8()..];
                match escaped {
                    'x' => {
                        let digits = rest.get(..2).ok_or("an escape is cut short")?;
                        out.push(u8::from_str_radix(digits, 16).map_err(|_| "a bad escape")?);
                        rest = &rest[2..];
                    }
                    'u' => {
                        let (digits, more) =
                            rest.strip_prefix('{').and_then(|r| r.split_once('}')).ok_or("a bad escape")?;
                        let code = u32::from_str_radix(digits, 16).map_err(|_| "a bad escape")?;
                        out.extend(char::from_u32(code).ok_or("a bad escape")?.to_string().bytes());
                        rest = more;
                    }
                    other => out.extend(other.to_string().bytes()),
                }
            }
            c => out.extend(c.to_string().bytes()),
        }
    }
}

/// The number that a text stands for: decimal, or hexadecimal with `0x`.
pub fn number(text: &[u8]) -> Result<u64, String> {
    let text = std::str::from_utf8(text).map_err(|_| "not a number")?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is not a number"))
}

/// The bytes that hexadecimal digits stand for.
pub fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    };
    digits.chunks(2).map(|pair| byte(pair).ok_or_else(|| format!("{text:?} is not hexadecimal"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_case() {
        let text = "# words\ncase x: A title: with a colon\n  ids v5/MQTT-1 v3/MQTT-2\n  5| a2<? publish id=?n \
                    payload=\"a b\" expiry<=3\n";
        let case = &parse("f", text).expect("is a case")[0];
        assert_eq!((case.name.as_str(), case.title.as_str()), ("x", "A title: with a colon"));
        assert_eq!(case.versions(), [5, 4]);
        let step = &case.steps[0];
        assert_eq!((step.version, step.conn.as_str(), step.verb), (Some(5), "a2", Verb::ExpectAmong));
        let ops: Vec<_> = step.words.iter().map(|word| (word.key.as_str(), word.op, word.value.as_str())).collect();
        let wanted = [("id", Op::Is, "?n"), ("payload", Op::Is, "\"a b\""), ("expiry", Op::AtMost, "3")];
        assert_eq!(ops, wanted);
    }

    #[test]
    fn expands_values() {
        let variables = Variables::from([("t".into(), b"T".to_vec()), ("p".into(), b"7".to_vec())]);
        for (value, bytes) in [
            ("{t}/x", &b"T/x"[..]),
            ("\"\\x00\\u{e9}\\\"{t}\"", b"\0\xc3\xa9\"T"),
            ("a\"b\"*3", b"abbb"),
            ("$p", b"7"),
            ("$SYS/x", b"$SYS/x"),
        ] {
            assert_eq!(expand(value, &variables), Ok(Value::Bytes(bytes.to_vec())), "{value}");
        }
        assert_eq!(expand("-", &variables), Ok(Value::Absent));
        assert_eq!(expand("?q", &variables), Ok(Value::Bind("q".into())));
        assert_eq!(number(b"0x81"), Ok(129));
        assert_eq!(hex("30 05"), Ok(vec![0x30, 5]));
    }
}
