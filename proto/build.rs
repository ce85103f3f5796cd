//! Compiles every `proto/<name>.proto` (package `rookery.<name>.v1`) to the module `<name>` of this crate,
//! without `protoc`. Message bodies are `bytes::Bytes`, so that they are not copied on the way.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message as _;

const FOLDER: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={FOLDER}");
    let names = names()?;
    let descriptors = protox::compile(names.iter().map(|name| format!("{name}.proto")), [FOLDER])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    fs::write(out.join("modules.rs"), modules(&names)?)?;
    Ok(())
}

/// The stems of the .proto files, sorted, so that the output does not depend on the file system.
fn names() -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(FOLDER)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "proto") {
            println!("cargo:rerun-if-changed={}", path.display());
            names.push(stem(&path)?);
        }
    }
    names.sort();
    Ok(names)
}

fn stem(path: &Path) -> Result<String, Box<dyn Error>> {
    Ok(path.file_stem().and_then(|s| s.to_str()).ok_or("a .proto file's name is not utf-8")?.to_owned())
}

fn modules(names: &[String]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for name in names {
        writeln!(text, "/// Package `rookery.{name}.v1`.")?;
        writeln!(text, "pub mod {name} {{ include!(concat!(env!(\"OUT_DIR\"), \"/rookery.{name}.v1.rs\")); }}")?;
    }
    Ok(text)
}
