//! The little that a packet alone can tell about a topic name (4.7). Filters are `cluster::topics`' business.

/// A topic name has at least one character, and neither wildcards nor U+0000. (That it is UTF-8 and at most 65,535
/// bytes long, its reader and its writer check.)
pub(super) fn check_name(topic: &str) -> Result<(), &'static str> {
    if topic.is_empty() {
        return Err("the topic name is empty");
    }
    if topic.bytes().any(|byte| matches!(byte, b'+' | b'#' | 0)) {
        return Err("the topic name has wildcards or u+0000");
    }
    Ok(())
}
