//! What was kept is tried again, and a few new inputs with it; `scripts/fuzz` tries many.

use rookery_fuzz::corpus::{load, to_hex};
use rookery_fuzz::run::{Failure, check, mutations};
use rookery_fuzz::targets::{TARGETS, Target};

/// New inputs for each target.
const INPUTS: usize = 2000;
/// Of what those are made.
const SEED: u64 = 1;

fn explained(target: &Target, name: &str, failure: &Failure) -> String {
    format!("{}, {name}: {}\n{}", target.name, failure.why, to_hex(&failure.input))
}

#[test]
fn the_corpora_are_read_without_harm() {
    let mut wrong = Vec::new();
    for target in TARGETS {
        let kept = load(target).expect("the corpus is readable");
        assert!(!kept.is_empty(), "{} has no input", target.name);
        let failures = kept.iter().filter_map(|(name, input)| Some((name, check(target, input).err()?)));
        wrong.extend(failures.map(|(name, failure)| explained(target, name, &failure)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn new_inputs_are_read_without_harm() {
    let mut wrong = Vec::new();
    for target in TARGETS {
        let inputs: Vec<_> = load(target).expect("the corpus is readable").into_iter().map(|kept| kept.1).collect();
        if let Err(failure) = mutations(target, &inputs, SEED, INPUTS, |_| {}) {
            wrong.push(explained(target, &format!("seed {SEED}"), &failure));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
