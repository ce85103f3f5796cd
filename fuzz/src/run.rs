//! One input, and many.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::mutate::mutated;
use crate::rng::Rng;
use crate::targets::Target;

/// Most of the processor's time that one input may take: what the machine does beside does not count.
pub const TIME: Duration = Duration::from_secs(1);

/// An input that went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// It.
    pub input: Vec<u8>,
    /// What went wrong.
    pub why: String,
}

/// Gives `input` to `target`; how much of the processor's time it took.
///
/// # Errors
/// What went wrong: what the target says, a panic, or [`TIME`] exceeded.
pub fn check(target: &Target, input: &[u8]) -> Result<Duration, Failure> {
    let failure = |why: String| Failure { input: input.to_vec(), why };
    let before = busy();
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = busy().saturating_sub(before);
    match result {
        Err(panic) => Err(failure(format!("panicked: {}", text_of(&*panic)))),
        Ok(Err(why)) => Err(failure(why)),
        Ok(Ok(())) if took > TIME => Err(failure(format!("took {took:?} of the processor"))),
        Ok(Ok(())) => Ok(took),
    }
}

/// Gives `target` `count` inputs made from `corpus` as `seed` has it; how long the slowest took. `before` sees each one
/// first.
///
/// # Errors
/// The first that went wrong.
pub fn mutations(
    target: &Target,
    corpus: &[Vec<u8>],
    seed: u64,
    count: usize,
    mut before: impl FnMut(&[u8]),
) -> Result<Duration, Failure> {
    let (mut rng, mut slowest) = (Rng::new(seed), Duration::ZERO);
    for _ in 0..count {
        let input = mutated(corpus, &mut rng);
        before(&input);
        slowest = slowest.max(check(target, &input)?);
    }
    Ok(slowest)
}

/// What this thread has had of the processor.
fn busy() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec.max(0) as u64, t.tv_nsec.clamp(0, 999_999_999) as u32)
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sensitive(input: &[u8]) -> Result<(), String> {
        assert!(input.first() != Some(&7), "seven");
        if input.first() == Some(&8) { Err("eight".to_owned()) } else { Ok(()) }
    }

    #[test]
    fn panics_and_complaints_are_failures() {
        let target = Target { name: "sensitive", run: sensitive, seeds: Vec::new };
        assert!(check(&target, &[1]).is_ok());
        assert_eq!(check(&target, &[7, 1]).unwrap_err().why, "panicked: seven");
        assert_eq!(check(&target, &[8]).unwrap_err().why, "eight");
        let found = mutations(&target, &[vec![9]], 1, 10_000, |_| {}).unwrap_err();
        assert!(matches!(found.input[0], 7 | 8));
    }
}
