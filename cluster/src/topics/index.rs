//! The index from topic filters to their holders.

use std::collections::{BTreeMap, HashMap};

use super::hash::Seeded;

/// A map (filter, `K`) -> `V` that finds all entries whose filter matches a topic name.
///
/// A trie by levels. Finding costs one or two steps per level for each branch that matches, however many
/// filters there are, and allocates nothing. Filters and topics must have passed
/// [`validate_filter`](super::validate_filter) (without the `$share` prefix) and
/// [`validate_topic`](super::validate_topic): that bounds the depth.
#[derive(Debug)]
pub struct Index<K, V> {
    root: Node<K, V>,
    len: usize,
    hasher: Seeded,
}

#[derive(Debug)]
struct Node<K, V> {
    /// Entries of the filter that ends here.
    exact: BTreeMap<K, V>,
    /// Entries of the filter that ends here with `/#`.
    multi: BTreeMap<K, V>,
    /// The level `+`.
    single: Option<Box<Node<K, V>>>,
    /// Never iterated while matching, so that its order shows nowhere.
    children: HashMap<Box<str>, Node<K, V>, Seeded>,
}

impl<K: Ord, V> Index<K, V> {
    /// An empty index. `seed` keeps clients from choosing names that collide: random, one per process (fixed in
    /// tests).
    pub fn new(seed: u64) -> Self {
        let hasher = Seeded::new(seed);
        Self { root: Node::new(hasher), len: 0, hasher }
    }

    /// How many (filter, key) entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds or replaces the entry of `key` under `filter`; returns what it replaced.
    pub fn insert(&mut self, filter: &str, key: K, value: V) -> Option<V> {
        let hasher = self.hasher;
        let mut node = &mut self.root;
        let (path, multi) = split_multi(filter);
        for level in levels(path) {
            node = match level {
                "+" => node.single.get_or_insert_with(|| Box::new(Node::new(hasher))),
                name => node.children.entry(name.into()).or_insert_with(|| Node::new(hasher)),
            };
        }
        let replaced = node.entries_mut(multi).insert(key, value);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Removes the entry of `key` under `filter`; returns it.
    pub fn remove(&mut self, filter: &str, key: &K) -> Option<V> {
        let (path, multi) = split_multi(filter);
        let removed = self.root.remove(path, multi, key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// The value of `key` under exactly `filter`.
    pub fn get(&self, filter: &str, key: &K) -> Option<&V> {
        let (path, multi) = split_multi(filter);
        let mut node = &self.root;
        for level in levels(path) {
            node = if level == "+" { node.single.as_deref()? } else { node.children.get(level)? };
        }
        if multi { node.multi.get(key) } else { node.exact.get(key) }
    }

    /// Calls `visit` for every entry whose filter matches `topic`; entries under the same filter in the order
    /// of their keys. A key that is held under several matching filters comes once for each.
    pub fn for_each_match(&self, topic: &str, mut visit: impl FnMut(&K, &V)) {
        // §4.7.2: a leading wildcard does not match a topic that begins with `$`.
        if topic.starts_with('$') {
            let (first, rest) = split_level(topic);
            if let Some(child) = self.root.children.get(first) {
                child.visit(rest, &mut visit);
            }
        } else {
            self.root.visit(Some(topic), &mut visit);
        }
    }

    /// All filters with at least one entry, sorted.
    pub fn filters(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.root.collect(&mut Vec::new(), &mut found);
        found.sort_unstable();
        found
    }
}

impl<K: Ord, V> Node<K, V> {
    fn new(hasher: Seeded) -> Self {
        Self { exact: BTreeMap::new(), multi: BTreeMap::new(), single: None, children: HashMap::with_hasher(hasher) }
    }

    fn entries_mut(&mut self, multi: bool) -> &mut BTreeMap<K, V> {
        if multi { &mut self.multi } else { &mut self.exact }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.multi.is_empty() && self.single.is_none() && self.children.is_empty()
    }

    fn visit(&self, rest: Option<&str>, visit: &mut impl FnMut(&K, &V)) {
        // `a/#` matches `a` too, so this comes before the question whether the name ends here.
        self.multi.iter().for_each(|(key, value)| visit(key, value));
        let Some(rest) = rest else {
            self.exact.iter().for_each(|(key, value)| visit(key, value));
            return;
        };
        let (level, rest) = split_level(rest);
        if let Some(child) = self.children.get(level) {
            child.visit(rest, visit);
        }
        if let Some(child) = &self.single {
            child.visit(rest, visit);
        }
    }

    fn remove(&mut self, path: Option<&str>, multi: bool, key: &K) -> Option<V> {
        let Some(path) = path else {
            return self.entries_mut(multi).remove(key);
        };
        let (level, rest) = split_level(path);
        if level == "+" {
            let removed = self.single.as_mut()?.remove(rest, multi, key);
            self.single.take_if(|child| child.is_empty());
            return removed;
        }
        let child = self.children.get_mut(level)?;
        let removed = child.remove(rest, multi, key);
        if child.is_empty() {
            self.children.remove(level);
            // A level that once had a million names must not keep their table for ever.
            if self.children.capacity() > 4 * self.children.len() + 16 {
                self.children.shrink_to_fit();
            }
        }
        removed
    }

    fn collect<'a>(&'a self, path: &mut Vec<&'a str>, found: &mut Vec<String>) {
        if !self.exact.is_empty() {
            found.push(path.join("/"));
        }
        if !self.multi.is_empty() {
            path.push("#");
            found.push(path.join("/"));
            path.pop();
        }
        let single = self.single.iter().map(|child| ("+", &**child));
        for (level, child) in single.chain(self.children.iter().map(|(level, child)| (&**level, child))) {
            path.push(level);
            child.collect(path, found);
            path.pop();
        }
    }
}

/// The first level, and what follows it.
fn split_level(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (path, None),
    }
}

/// The path without a last level `#`, and whether there was one.
fn split_multi(filter: &str) -> (Option<&str>, bool) {
    match filter.strip_suffix('#') {
        Some("") => (None, true),
        Some(path) => (Some(path.strip_suffix('/').unwrap_or(path)), true),
        None => (Some(filter), false),
    }
}

fn levels(path: Option<&str>) -> impl Iterator<Item = &str> {
    path.into_iter().flat_map(|path| path.split('/'))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
