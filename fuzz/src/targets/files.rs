//! What a node finds on its disk: the rows and the mark of its metadata log, and the files that make it a member.

use std::io;
use std::sync::{Arc, OnceLock};

use rookery_cluster::clock::{Clock, Moment, UnixMillis};
use rookery_cluster::join::NodeFiles;
use rookery_cluster::log::fuzz;

use super::{ensure, head, parts};
use crate::corpus::from_hex;

/// The files of a member, in this order between bytes 0xff.
const NAMES: [&str; 5] = ["node.json", "secrets/cluster.key", "pki/ca.crt", "pki/node.crt", "pki/node.key"];
const NOW: UnixMillis = UnixMillis(1_654_041_700_123);

/// A byte for what it is: a row of that kind, the file of the mark, or the bodies of its two slots.
pub fn rows(input: &[u8]) -> Result<(), String> {
    let (how, bytes) = head(input);
    match how {
        0xff => fuzz::mark(bytes),
        0xfe => fuzz::framed_mark(bytes),
        which => fuzz::row(which, bytes),
    }
}

/// A row of each kind, and a mark.
pub fn row_seeds() -> Vec<Vec<u8>> {
    let (mark, bodies, rows) = fuzz::seeds();
    let mut all: Vec<Vec<u8>> = rows.into_iter().map(|(which, body)| [&[which], &body[..]].concat()).collect();
    all.push([&[0xff], &mark[..]].concat());
    all.push([&[0xfe], &bodies[..]].concat());
    all
}

/// The files of a member: what is one can say so again, and what TLS they give is of that member.
pub fn node(input: &[u8]) -> Result<(), String> {
    let Ok(Some(files)) = parsed(input) else { return Ok(()) };
    let tls = files.tls(Arc::new(Fixed));
    let whole = whole();
    let same = (&files.ca_pem, &files.cert_pem, &files.key_pem) == (&whole.ca_pem, &whole.cert_pem, &whole.key_pem);
    let member = (files.cluster, files.node) == (whole.cluster, whole.node);
    ensure(!same || !member || tls.is_ok(), || format!("{files:?}: {:?}", tls.as_ref().err()))?;
    ensure(member || tls.is_err(), || format!("{files:?} has a certificate of {whole:?}"))
}

/// The files of a member without those of TLS; the whole ones are in the corpus.
pub fn node_seeds() -> Vec<Vec<u8>> {
    let whole = member();
    let texts: Vec<&[u8]> = parts(&whole).take(2).collect();
    vec![texts.join(&0xff), [&texts.join(&0xff)[..], &[0xff; 3]].concat()]
}

fn member() -> Vec<u8> {
    from_hex(include_str!("../../corpus/node/member.hex")).expect("hexadecimal digits")
}

fn whole() -> &'static NodeFiles {
    static WHOLE: OnceLock<NodeFiles> = OnceLock::new();
    WHOLE.get_or_init(|| parsed(&member()).expect("sound").expect("a member"))
}

fn parsed(input: &[u8]) -> io::Result<Option<NodeFiles>> {
    let texts: Vec<&[u8]> = parts(input).collect();
    NodeFiles::parse(|name| {
        let at = NAMES.iter().position(|known| *known == name);
        let text = at.and_then(|at| texts.get(at)).ok_or(io::ErrorKind::NotFound)?;
        String::from_utf8(text.to_vec()).map_err(io::Error::other)
    })
}

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Moment {
        Moment::default()
    }
    fn wall(&self) -> UnixMillis {
        NOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_what_they_should_be() {
        assert!(row_seeds().iter().all(|seed| rows(seed) == Ok(())));
        assert!(node_seeds().iter().all(|seed| node(seed) == Ok(())));
        assert_eq!(node(&member()), Ok(()));
        assert!(whole().tls(Arc::new(Fixed)).is_ok());
    }
}
