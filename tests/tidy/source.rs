//! Reads Rust source far enough for the import table: which paths a file names, and on which lines.

/// A path as written, such as `tokio::sync::Notify`, with the line that it begins on.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// Counted from 1.
    pub line: usize,
    /// The segments, at least two.
    pub path: Vec<String>,
}

/// The text with comments, literals and test-only items blanked, lines kept.
pub fn code_of(text: &str) -> String {
    without_tests(&without_literals(text))
}

/// Every path of two or more segments in `code`, the trees of `use` unfolded.
pub fn paths(code: &str) -> Vec<Named> {
    let chars: Vec<char> = code.chars().collect();
    let mut reader = Reader { chars: &chars, at: 0, line: 1, found: Vec::new() };
    reader.all();
    reader.found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn blank(out: &mut [char], from: usize, to: usize) {
    for c in &mut out[from..to] {
        if *c != '\n' {
            *c = ' ';
        }
    }
}

fn without_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = chars.clone();
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end > at {
            blank(&mut out, at, end);
            at = end;
        } else if is_word(chars[at]) {
            // A whole word, so that the `r` of `str"` is not taken for a raw string.
            at += chars[at..].iter().take_while(|c| is_word(**c)).count();
        } else {
            at += 1;
        }
    }
    out.into_iter().collect()
}

/// Where the comment or literal that begins at `at` ends; `at` itself when none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let starts = |prefix: &str| prefix.chars().enumerate().all(|(i, c)| rest.get(i) == Some(&c));
    if starts("//") {
        return at + rest.iter().take_while(|c| **c != '\n').count();
    }
    if starts("/*") {
        return block_comment_end(chars, at);
    }
    let hashes = |skip: usize| rest[skip.min(rest.len())..].iter().take_while(|c| **c == '#').count();
    for prefix in ["r", "br"] {
        let count = hashes(prefix.len());
        if starts(prefix) && rest.get(prefix.len() + count) == Some(&'"') {
            return raw_end(chars, at + prefix.len() + count + 1, count);
        }
    }
    if starts("\"") || starts("b\"") {
        return quoted_end(chars, at + if starts("b") { 2 } else { 1 }, '"');
    }
    // A lifetime has no closing quote within two characters, unless it is an escape.
    if starts("'") && (rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'')) {
        return quoted_end(chars, at + 1, '\'');
    }
    at
}

fn block_comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn raw_end(chars: &[char], from: usize, hashes: usize) -> usize {
    let ends = |at: usize| chars[at] == '"' && (1..=hashes).all(|i| chars.get(at + i) == Some(&'#'));
    (from..chars.len()).find(|at| ends(*at)).map_or(chars.len(), |at| at + hashes + 1)
}

fn quoted_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Blanks each item under `#[cfg(test)]` or `#[cfg(any(test, ..))]`.
fn without_tests(code: &str) -> String {
    let chars: Vec<char> = code.chars().collect();
    let mut out = chars.clone();
    let text: String = code.chars().map(|c| if c.is_ascii() { c } else { ' ' }).collect();
    for marker in ["#[cfg(test", "#[cfg(any(test", "#[cfg(all(test", "#[test]", "#[tokio::test"] {
        for (start, _) in text.match_indices(marker) {
            blank(&mut out, start, item_end(&chars, start));
        }
    }
    out.into_iter().collect()
}

/// The end of the item at `start`: its `;`, or the brace that closes its first one.
fn item_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in chars.iter().enumerate().skip(start) {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && *c == '}' {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    chars.len()
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
    line: usize,
    found: Vec<Named>,
}

impl Reader<'_> {
    fn all(&mut self) {
        while let Some(&c) = self.chars.get(self.at) {
            if is_word(c) {
                let line = self.line;
                self.tree(line, Vec::new());
            } else if c == '.' || self.at_colons() {
                // What follows belongs to a value or to a type in brackets, not to a path of its own.
                self.bump(if c == '.' { 1 } else { 2 });
                self.spaces();
                self.word();
            } else {
                self.bump(1);
            }
        }
    }

    /// Reads a path or a `use` tree that begins with a word or a brace.
    fn tree(&mut self, line: usize, mut path: Vec<String>) {
        loop {
            match self.chars.get(self.at) {
                Some('{') => return self.group(&path),
                Some('*') => self.bump(1),
                Some(&c) if is_word(c) => path.push(self.word()),
                _ => break,
            }
            let (at, was) = (self.at, self.line);
            self.spaces();
            if !self.at_colons() {
                (self.at, self.line) = (at, was);
                break;
            }
            self.bump(2);
            self.spaces();
        }
        if path.len() > 1 {
            self.found.push(Named { line, path });
        }
    }

    fn group(&mut self, prefix: &[String]) {
        self.bump(1);
        loop {
            self.spaces();
            match self.chars.get(self.at) {
                None => return,
                Some('}') => return self.bump(1),
                Some(&c) if is_word(c) || c == '{' || c == '*' => {
                    let line = self.line;
                    self.tree(line, prefix.to_vec());
                    self.alias();
                }
                Some(_) => self.bump(1),
            }
        }
    }

    /// Passes over the `as name` of a branch.
    fn alias(&mut self) {
        while self.chars.get(self.at).is_some_and(|c| is_word(*c) || c.is_whitespace()) {
            self.bump(1);
        }
    }

    fn word(&mut self) -> String {
        let word: String = self.chars[self.at..].iter().take_while(|c| is_word(**c)).collect();
        self.bump(word.chars().count());
        word
    }

    fn at_colons(&self) -> bool {
        self.chars[self.at..].starts_with(&[':', ':'])
    }

    fn spaces(&mut self) {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.bump(1);
        }
    }

    fn bump(&mut self, count: usize) {
        for _ in 0..count {
            if self.chars.get(self.at) == Some(&'\n') {
                self.line += 1;
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{code_of, paths};

    fn named(text: &str) -> Vec<(usize, String)> {
        paths(&code_of(text)).into_iter().map(|n| (n.line, n.path.join("::"))).collect()
    }

    #[test]
    fn use_trees_are_unfolded() {
        let text = "use a::{\n    b::{self, C},\n    d as e,\n};\npub use f::g as h;\n";
        let want = [(2, "a::b::self"), (2, "a::b::C"), (3, "a::d"), (5, "f::g")];
        assert_eq!(named(text), want.map(|w| (w.0, w.1.to_owned())));
    }

    #[test]
    fn paths_within_code_count_and_methods_do_not() {
        let text = "fn f() -> x::Y<z::W> {\n    self.a.b::<c::D>();\n    m::n!(o::P)\n}\n";
        let want = [(1, "x::Y"), (1, "z::W"), (2, "c::D"), (3, "m::n"), (3, "o::P")];
        assert_eq!(named(text), want.map(|w| (w.0, w.1.to_owned())));
    }

    #[test]
    fn comments_literals_and_tests_do_not_count() {
        let text = concat!(
            "// a::b\n/* c::d /* e::f */ g::h */ let s = \"i::j \\\" k::l\"; let r = r#\"m::n\"#;\n",
            "let c = '\"'; let l: &'static o::P = &q;\n#[cfg(test)]\nmod tests { use r::s; fn f() { t::u() } }\nv::w();\n",
        );
        assert_eq!(named(text), [(3, "o::P".to_owned()), (6, "v::w".to_owned())]);
    }
}
