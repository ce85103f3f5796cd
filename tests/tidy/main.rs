//! The rules of the tree that a machine can check: who may import whom, what a pure room may touch, how long a file may
//! be, and what no file may say. The table is in `rooms.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

mod rooms;
mod source;

use rooms::{ANYWHERE, CIRCLES, IMPURE_PATHS, IMPURE_WORDS, Kind, LONG_FILES, MAX_LINES, PLAIN_DATA, ROOMS, Room};
use source::{code_of, paths};

/// A file of the tree: its path from the root, with `/`, and its text.
struct File {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Folders that are not the project's text.
const SKIPPED: &[&str] = &["target", "node_modules", "rookery-data"];

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a folder's entry is readable").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        let hidden = name.starts_with('.') && name != ".ci" && name != ".config";
        if path.is_dir() && !hidden && !SKIPPED.contains(&name.as_str()) {
            walk(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

/// Every file of the tree whose name ends with one of `endings`.
fn files(endings: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    found
        .into_iter()
        .filter(|path| endings.iter().any(|e| path.to_string_lossy().ends_with(e)))
        .filter_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            let path = path.strip_prefix(root()).expect("walked from the root").to_string_lossy().replace('\\', "/");
            Some(File { path, text })
        })
        .collect()
}

/// Tests, benches and what only they use.
fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.split('/').any(|part| part == "tests" || part == "benches" || part == "examples" || part == "fuzz")
        || name.starts_with("tests")
        || name == "testing.rs"
        || name == "suite.rs"
}

fn room_of(path: &str) -> Option<&'static Room> {
    let inside =
        |room: &&Room| path == room.path || path.strip_prefix(room.path).is_some_and(|r| r.starts_with(['/', '.']));
    ROOMS.iter().filter(inside).max_by_key(|room| room.path.len())
}

/// The folder of source that a crate's name stands for.
fn crate_root(name: &str) -> Option<&'static str> {
    Some(match name {
        "rookery" => "src",
        "rookery_cluster" => "cluster/src",
        "rookery_raft" => "cluster/raft/src",
        "rookery_proto" => "proto/src",
        "rookery_jepsen" => "jepsen/src",
        "rookery_fuzz" => "fuzz/src",
        _ => return None,
    })
}

/// The folder of source that `path` lies in.
fn own_root(path: &str) -> &str {
    path.find("/src/").map_or("src", |at| &path[..at + 4])
}

/// Where a path written in `file` leads, as a path of the tree; none for another crate or a local name.
fn target(file: &str, path: &[String]) -> Option<String> {
    let module = file.trim_end_matches(".rs").trim_end_matches("/mod").to_owned();
    let mut at: Vec<&str> = module.split('/').collect();
    let mut rest = path;
    match path[0].as_str() {
        "crate" => at = own_root(file).split('/').collect(),
        "self" => {}
        "super" => {
            while rest.first().is_some_and(|s| s == "super") {
                at.pop();
                rest = &rest[1..];
            }
            return Some([at.join("/"), rest.join("/")].join("/"));
        }
        name => at = crate_root(name)?.split('/').collect(),
    }
    Some([at.join("/"), rest[1..].join("/")].join("/"))
}

/// The names of the crates that some `Cargo.toml` of the tree depends on, as code writes them.
fn outside_crates() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files(&["Cargo.toml"]) {
        let mut inside = false;
        for line in file.text.lines() {
            if line.starts_with('[') {
                inside = line.contains("dependencies");
            } else if let Some(name) = line.split(['.', '=', ' ']).next().filter(|n| inside && !n.is_empty()) {
                names.insert(name.replace('-', "_"));
            }
        }
    }
    names.retain(|name| crate_root(name).is_none() && !name.starts_with('#'));
    names
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}\n  {}\n", broken.join("\n  "));
}

#[test]
fn imports_follow_the_table() {
    let outside = outside_crates();
    let mut broken = Vec::new();
    for file in files(&[".rs"]).iter().filter(|f| !is_test(&f.path) && !f.path.ends_with("build.rs")) {
        let Some(room) = room_of(&file.path) else {
            broken.push(format!("{}:1: this file is in no room of tests/tidy/rooms.rs", file.path));
            continue;
        };
        for named in paths(&code_of(&file.text)) {
            if let Some(why) = refusal(room, &file.path, &named.path, &outside) {
                broken.push(format!("{}:{}: {}: {why}", file.path, named.line, named.path.join("::")));
            }
        }
    }
    report("the import table is in tests/tidy/rooms.rs", &broken);
}

/// Why `room` may not name `path`, if it may not.
fn refusal(room: &Room, file: &str, path: &[String], outside: &BTreeSet<String>) -> Option<String> {
    let head = path[0].as_str();
    if outside.contains(head) {
        let known = ANYWHERE.contains(&head) || room.crates.contains(&head);
        return (!known).then(|| format!("{} does not use the crate {head}", room.path));
    }
    let target = target(file, path)?;
    let other = room_of(&target)?;
    let known = other.path == room.path || room.rooms.contains(&other.path);
    (!known).then(|| format!("{} does not know {}", room.path, other.path))
}

#[test]
fn pure_rooms_touch_nothing() {
    let mut broken = Vec::new();
    for file in files(&[".rs"]).iter().filter(|f| !is_test(&f.path)) {
        if room_of(&file.path).is_some_and(|room| room.kind == Kind::Pure) {
            impurities(&file.path, &file.text, &mut broken);
        }
    }
    report("a pure room takes inputs and returns outputs", &broken);
}

fn impurities(path: &str, text: &str, broken: &mut Vec<String>) {
    let code = code_of(text);
    for named in paths(&code) {
        let full = named.path.join("::");
        let impure = IMPURE_PATHS.iter().any(|p| full == *p || full.starts_with(&format!("{p}::")));
        if impure && !PLAIN_DATA.iter().any(|p| full.starts_with(p)) {
            broken.push(format!("{path}:{}: {full} in a pure room", named.line));
        }
    }
    for (number, line) in code.lines().enumerate() {
        for word in IMPURE_WORDS.iter().filter(|word| says(line, word)) {
            broken.push(format!("{path}:{}: `{word}` in a pure room", number + 1));
        }
        if random_hasher(line) {
            broken.push(format!("{path}:{}: a hash map with a random order in a pure room", number + 1));
        }
    }
}

/// Whether `line` has `word`, not as a part of a longer one.
fn says(line: &str, word: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = word.starts_with(letter) && line[..at].ends_with(letter);
        !before && !line[at + word.len()..].starts_with(letter)
    })
}

/// Whether the line makes or names a hash map or set without saying which hasher.
fn random_hasher(line: &str) -> bool {
    [("HashMap", 3), ("HashSet", 2)].iter().any(|(name, wanted)| {
        line.match_indices(name).any(|(at, _)| {
            let rest = &line[at + name.len()..];
            rest.starts_with("::new(")
                || rest.starts_with("::with_capacity(")
                || arguments(rest).is_some_and(|n| n < *wanted)
        })
    })
}

/// The number of generic arguments that `rest` begins with.
fn arguments(rest: &str) -> Option<usize> {
    let rest = rest.strip_prefix('<')?;
    let (mut depth, mut count) = (0, 1);
    for c in rest.chars() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' if depth == 0 => return Some(count),
            '>' | ')' | ']' => depth -= 1,
            ',' if depth == 0 => count += 1,
            _ => {}
        }
    }
    None
}

#[test]
fn rooms_do_not_know_each_other_in_circles() {
    let excused =
        |room: &str, other: &str| CIRCLES.iter().any(|(a, b, why)| (*a, *b) == (room, other) && !why.is_empty());
    let edges: BTreeMap<&str, &[&str]> = ROOMS.iter().map(|room| (room.path, room.rooms)).collect();
    let unknown: Vec<String> = ROOMS
        .iter()
        .flat_map(|room| room.rooms.iter().map(move |other| (room.path, *other)))
        .filter(|(_, other)| !edges.contains_key(other))
        .map(|(room, other)| format!("{room} -> {other}, which is no room"))
        .collect();
    report("every room of the table exists", &unknown);
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    loop {
        let next = |room: &&Room| {
            let known = |other: &&str| settled.contains(*other) || excused(room.path, other);
            !settled.contains(room.path) && room.rooms.iter().all(known)
        };
        let Some(room) = ROOMS.iter().find(next) else { break };
        settled.insert(room.path);
    }
    let circle: Vec<String> = edges.keys().filter(|room| !settled.contains(**room)).map(|r| (*r).to_owned()).collect();
    report("dependencies between rooms point one way; these are in a circle or above one", &circle);
}

#[test]
fn files_are_short() {
    let mut broken = Vec::new();
    for file in files(&[".rs"]).iter().filter(|f| !is_test(&f.path)) {
        let lines = file.text.lines().count();
        let excused = LONG_FILES.iter().any(|(path, reason)| *path == file.path && !reason.is_empty());
        if lines > MAX_LINES && !excused {
            broken.push(format!("{}:{lines}: longer than {MAX_LINES} lines", file.path));
        }
    }
    report("a file that grows past the bound is split by verb", &broken);
}

#[test]
fn modules_say_what_they_are() {
    let silent = |file: &&File| !is_test(&file.path) && !file.text.starts_with("//!");
    let broken: Vec<String> =
        files(&[".rs"]).iter().filter(silent).map(|f| format!("{}:1: no `//!` header", f.path)).collect();
    report("every module begins with a line that says what it is", &broken);
}

#[test]
fn nothing_is_left_for_later_without_an_issue() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let mut broken = Vec::new();
    for file in files(&[".rs", ".md", ".toml", ".proto", ".sh", "scripts/test", ".ci/run"]) {
        for (number, line) in file.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) && !line.contains("issue #") {
                broken.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    report("a mark for later names its issue", &broken);
}

#[test]
fn no_path_of_one_machine() {
    let endings = [
        ".rs",
        ".md",
        ".toml",
        ".proto",
        ".js",
        ".cjs",
        ".py",
        ".json",
        ".service",
        "scripts/test",
        ".ci/run",
        "justfile",
    ];
    let places = [concat!("/wo", "rk/"), concat!("/tmp/", "wt"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut broken = Vec::new();
    for file in files(&endings) {
        for (number, line) in file.text.lines().enumerate() {
            if places.iter().any(|place| line.contains(place)) {
                broken.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    report("no file names a folder of the machine that it was written on", &broken);
}

#[test]
fn planted_faults_are_found() {
    let outside: BTreeSet<String> = ["tokio", "sled", "bytes"].map(str::to_owned).into();
    let room = room_of("cluster/src/topics/index.rs").expect("topics is a room");
    let why = |path: &str| {
        let path: Vec<String> = path.split("::").map(str::to_owned).collect();
        refusal(room, "cluster/src/topics/index.rs", &path, &outside)
    };
    assert!(why("tokio::sync::Notify").is_some());
    assert!(why("sled::Db").is_some());
    assert!(why("crate::raft::x").is_none(), "a name that is no room is the compiler's to refuse");
    assert!(why("crate::forward::Forward").is_some());
    assert!(why("super::super::forward::Forward").is_some());
    assert!(why("super::grammar::Filter").is_none());
    assert!(why("std::fmt::Debug").is_none());
    let mut broken = Vec::new();
    let text = "use std::time::{Duration, Instant};\nuse std::net::SocketAddr;\nasync fn f() {}\nlet m: HashMap<u8, (u8, u8)>;\n";
    impurities("x.rs", text, &mut broken);
    let lines: Vec<&str> = broken.iter().map(|b| b.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["x.rs:1", "x.rs:3", "x.rs:4"]);
}
