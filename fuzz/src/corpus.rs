//! Inputs that are kept: `fuzz/corpus/TARGET/*.hex`, hexadecimal digits with any white space between, and lines of
//! comment that begin with `#`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::targets::Target;

/// A target's inputs, those of the folder first, each with its name.
///
/// # Errors
/// A file cannot be read or is no hexadecimal text: the error names it.
pub fn load(target: &Target) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut all = kept(&folder(target))?;
    all.extend((target.seeds)().into_iter().enumerate().map(|(n, seed)| (format!("seed {n}"), seed)));
    Ok(all)
}

/// Keeps an input under a name that its bytes decide; returns the file.
///
/// # Errors
/// The file cannot be written.
pub fn keep(target: &Target, input: &[u8], why: &str) -> io::Result<PathBuf> {
    let folder = folder(target);
    fs::create_dir_all(&folder)?;
    let name = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let path = folder.join(format!("{name:016x}.hex"));
    let why = why.lines().next().unwrap_or_default();
    fs::write(&path, format!("# {why}\n{}\n", to_hex(input)))?;
    Ok(path)
}

/// In hexadecimal digits, 64 bytes a line.
pub fn to_hex(input: &[u8]) -> String {
    let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    input.chunks(64).map(line).collect::<Vec<_>>().join("\n")
}

/// The reverse of [`to_hex`], comments left out; `None` for another text.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.chars().filter(|c| !c.is_whitespace()))
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

fn kept(folder: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    if !folder.exists() {
        return Ok(all);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let input = from_hex(&text).ok_or_else(|| io::Error::other(format!("{} is no hex", path.display())))?;
        all.push((path.display().to_string(), input));
    }
    // A folder is listed in any order, and a seed is to give the same inputs.
    all.sort();
    Ok(all)
}

/// The packets of `tests/wire`.
///
/// # Panics
/// The files are not what they are in the tree.
pub fn wire() -> Vec<Vec<u8>> {
    let files = [include_str!("../../tests/wire/accepted.json"), include_str!("../../tests/wire/malformed.json")];
    let rows =
        files.iter().flat_map(|text| serde_json::from_str::<Vec<serde_json::Value>>(text).expect("a list of packets"));
    rows.map(|row| from_hex(row["hex"].as_str().expect("a packet")).expect("hexadecimal digits")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_both_ways() {
        let input: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&input)), Some(input));
        assert_eq!(from_hex("# why\n0A 0b\n"), Some(vec![10, 11]));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("0g"), None);
        assert!(wire().len() > 300);
    }
}
