//! New inputs from known ones.

use crate::MAX_INPUT;
use crate::rng::Rng;

/// Where arithmetic and lengths go wrong.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];
/// Bytes that mean something in one of the formats: separators, wildcards, empty lengths, varints that go on.
const MARKS: &[u8] = b"/+#$\0\x01\x7f\x80\xff{}\":,.%\r\n \x10\x30\x32\x82\xc0\xe0";
/// Most mutations of one input.
const MAX_STEPS: usize = 8;
/// Longest piece that is inserted, removed or repeated.
const MAX_PIECE: usize = 64;

/// An input made of one or two of `corpus`, [`MAX_INPUT`] bytes at most.
pub fn mutated(corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut input = pick(corpus, rng).to_vec();
    if rng.below(6) == 0 {
        input = splice(&input, pick(corpus, rng), rng);
    }
    for _ in 0..=rng.below(MAX_STEPS) {
        step(&mut input, rng);
    }
    input.truncate(MAX_INPUT);
    input
}

fn pick<'a>(corpus: &'a [Vec<u8>], rng: &mut Rng) -> &'a [u8] {
    corpus.get(rng.below(corpus.len())).map_or(&[], Vec::as_slice)
}

/// The front of one, then the end of the other.
fn splice(front: &[u8], end: &[u8], rng: &mut Rng) -> Vec<u8> {
    [&front[..rng.below(front.len() + 1)], &end[rng.below(end.len() + 1)..]].concat()
}

fn step(input: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(input.len() + 1);
    let piece = rng.below(MAX_PIECE.min(input.len() - at) + 1);
    match rng.below(10) {
        0 | 1 => change(input, at, |byte| *byte ^= 1 << rng.below(8)),
        2 => change(input, at, |byte| *byte = rng.byte()),
        3 => change(input, at, |byte| *byte = MARKS[rng.below(MARKS.len())]),
        4 => insert(input, at, &[MARKS[rng.below(MARKS.len())]]),
        5 => {
            let noise: Vec<u8> = (0..rng.below(MAX_PIECE)).map(|_| rng.byte()).collect();
            insert(input, at, &noise);
        }
        6 => drop(input.drain(at..at + piece)),
        7 => edge(input, at, rng),
        8 => length(input, at, rng),
        _ => {
            let repeated = input[at..at + piece].repeat(1 + rng.below(4));
            insert(input, at, &repeated);
        }
    }
}

fn change(input: &mut [u8], at: usize, how: impl FnOnce(&mut u8)) {
    if let Some(byte) = input.get_mut(at) {
        how(byte);
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}

/// Overwrites an integer of 1, 2, 4 or 8 bytes, in either order, or of postcard's and MQTT's form.
fn edge(input: &mut Vec<u8>, at: usize, rng: &mut Rng) {
    let value = EDGES[rng.below(EDGES.len())].wrapping_add_signed(rng.below(3) as i64 - 1);
    let size = 1 << rng.below(4);
    let bytes = match rng.below(3) {
        0 => value.to_le_bytes()[..size].to_vec(),
        1 => value.to_be_bytes()[8 - size..].to_vec(),
        _ => varint(value),
    };
    let end = (at + bytes.len()).min(input.len());
    input.splice(at..end, bytes);
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Makes the bytes at `at` the length of what follows, or one beside it.
fn length(input: &mut [u8], at: usize, rng: &mut Rng) {
    let left = (input.len() - at).saturating_sub(1 + rng.below(2)).wrapping_add(rng.below(2));
    match (rng.below(2), input.get_mut(at..at + 2)) {
        (0, Some(two)) => two.copy_from_slice(&(left as u16).to_be_bytes()),
        _ => change(input, at, |byte| *byte = left as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_repeat_differ_and_keep_the_bound() {
        let corpus = [vec![1; 100], Vec::new(), vec![2; MAX_INPUT]];
        let inputs = |seed| {
            let mut rng = Rng::new(seed);
            (0..500).map(|_| mutated(&corpus, &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(3).iter().all(|input| input.len() <= MAX_INPUT));
        assert!(mutated(&[], &mut Rng::new(1)).len() <= MAX_INPUT);
    }
}
